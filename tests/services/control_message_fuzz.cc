// Goal: no bytes of a control message, and no words of a call's metadata, crash the server that
// checks them; a model that it takes is said as it was told, and no session answers to a wrong
// token.
#include <google/protobuf/stubs/logging.h>

#include "services/server/control_messages.h"
#include "services/server/session_table.h"
#include "tests/support/fuzz.h"

namespace passband::server {
namespace {

using test::Fields;
using test::Require;

v1::Model Llama() {
  v1::Model model;
  model.set_fingerprint("f");
  model.set_name("Llama");
  model.set_layers(32);
  model.set_kv_heads(8);
  model.set_head_dim(128);
  model.set_rotary_dim(128);
  model.set_dtype("bf16");
  model.set_rope_layout("half");
  return model;
}

std::vector<std::string> Seeds() {
  v1::Model small = Llama();
  small.set_layers(0);
  v1::Model large = Llama();
  large.set_head_dim(UINT32_MAX);
  v1::Model interleaved = Llama();
  interleaved.set_rope_layout("interleaved");
  interleaved.set_dtype("f32");
  std::vector<std::string> seeds;
  for (const v1::Model& model : {Llama(), small, large, interleaved}) {
    seeds.push_back(std::string(1, 0) + model.SerializeAsString());
  }
  const std::string id(16, '1'), token(32, 'a');
  seeds.push_back(std::string(1, 1) + '\x10' + id + '\x20' + token);
  seeds.push_back(std::string(1, 2) +
                  "\x05"
                  "a.b-c"
                  "\x09worker \x1b[m");
  return seeds;
}

void CheckModelMessage(std::string_view bytes) {
  v1::Model message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  const StatusOr<ModelRecord> model = FromMessage(message);
  if (!model.ok()) return;
  v1::Model said;
  ToMessage(*model, said);
  const StatusOr<ModelRecord> again = FromMessage(said);
  Require(again.ok() && again->SameShape(*model) && again->fingerprint == model->fingerprint);
  Require(model->spec().shape.block_bytes() > 0);
}

// One session, and somebody who knows neither its number nor its token.
void Authenticate(Fields fields) {
  static SessionTable sessions({}, [](const Session&) { return uint64_t{0}; });
  static const auto session = *sessions.Open("a", "fuzz");
  const std::string id = fields.TakeText();
  const std::string token = fields.TakeText();
  Require(!sessions.Authenticate(id, token).ok());
  Require(!sessions.Authenticate(fmt::format("{:016x}", session->id()), token).ok());
}

void OpenSession(Fields fields) {
  SessionTable sessions({}, [](const Session&) { return uint64_t{0}; });
  const std::string tenant = fields.TakeText();
  const auto opened = sessions.Open(tenant, fields.TakeText());
  Require(opened.ok() == IsTenantName(tenant));
  if (!opened.ok()) return;
  for (const char c : (*opened)->client()) Require(c >= ' ' && c != '\x7f');
}

}  // namespace
}  // namespace passband::server

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  google::protobuf::SetLogHandler(nullptr);  // It has a line for every text that is no UTF-8.
  passband::test::BeginWith(argc, argv, passband::server::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest = passband::test::Text(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      passband::server::CheckModelMessage(rest);
      break;
    case 1:
      passband::server::Authenticate(passband::test::Fields(rest));
      break;
    default:
      passband::server::OpenSession(passband::test::Fields(rest));
  }
  return 0;
}
