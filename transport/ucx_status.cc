#include "transport/ucx_status.h"

namespace passband::transport {
namespace {

StatusCode CodeOf(ucs_status_t status) {
  if (UCS_IS_LINK_ERROR(status) || UCS_IS_ENDPOINT_ERROR(status)) return StatusCode::kUnavailable;
  switch (status) {
    case UCS_OK:
      return StatusCode::kOk;
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_SOME_CONNECTS_FAILED:
      return StatusCode::kUnavailable;
    case UCS_ERR_CANCELED:
      return StatusCode::kCancelled;
    case UCS_ERR_NO_RESOURCE:
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_EXCEEDS_LIMIT:
      return StatusCode::kResourceExhausted;
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
    case UCS_ERR_BUFFER_TOO_SMALL:
    case UCS_ERR_MESSAGE_TRUNCATED:
      return StatusCode::kInvalidArgument;
    case UCS_ERR_NO_ELEM:
      return StatusCode::kNotFound;
    case UCS_ERR_ALREADY_EXISTS:
      return StatusCode::kAlreadyExists;
    case UCS_ERR_OUT_OF_RANGE:
      return StatusCode::kOutOfRange;
    case UCS_ERR_TIMED_OUT:
      return StatusCode::kDeadlineExceeded;
    case UCS_ERR_REJECTED:
      return StatusCode::kPermissionDenied;
    case UCS_ERR_BUSY:
      return StatusCode::kFailedPrecondition;
    case UCS_ERR_UNSUPPORTED:
    case UCS_ERR_NOT_IMPLEMENTED:
      return StatusCode::kUnimplemented;
    default:
      return StatusCode::kInternal;
  }
}

}  // namespace

Status FromUcx(ucs_status_t status, const char* what) {
  if (status == UCS_OK) return OkStatus();
  return Error(CodeOf(status), "{}: {}", what, ucs_status_string(status));
}

ucs_status_t ToUcx(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return UCS_OK;
    case StatusCode::kCancelled:
      return UCS_ERR_CANCELED;
    case StatusCode::kUnavailable:
      return UCS_ERR_UNREACHABLE;
    case StatusCode::kResourceExhausted:
      return UCS_ERR_EXCEEDS_LIMIT;
    case StatusCode::kInvalidArgument:
      return UCS_ERR_INVALID_PARAM;
    case StatusCode::kNotFound:
      return UCS_ERR_NO_ELEM;
    case StatusCode::kAlreadyExists:
      return UCS_ERR_ALREADY_EXISTS;
    case StatusCode::kOutOfRange:
      return UCS_ERR_OUT_OF_RANGE;
    case StatusCode::kDeadlineExceeded:
      return UCS_ERR_TIMED_OUT;
    case StatusCode::kPermissionDenied:
    case StatusCode::kUnauthenticated:
      return UCS_ERR_REJECTED;
    case StatusCode::kFailedPrecondition:
      return UCS_ERR_BUSY;
    case StatusCode::kUnimplemented:
      return UCS_ERR_UNSUPPORTED;
    default:
      return UCS_ERR_IO_ERROR;
  }
}

}  // namespace passband::transport
