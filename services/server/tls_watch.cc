#include "services/server/tls_watch.h"

#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace passband::server {
namespace {

StatusOr<TlsTexts> Load(const TlsFiles& files) {
  return LoadTlsFiles(files, {.ca = "--tls-client-ca"});
}

bool Same(const TlsTexts& a, const TlsTexts& b) {
  return a.ca == b.ca && a.certificate == b.certificate && a.key == b.key;
}

double SinceEpoch(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

}  // namespace

StatusOr<std::unique_ptr<TlsWatch>> TlsWatch::Start(const TlsFiles& files) {
  PASSBAND_ASSIGN_OR_RETURN(TlsTexts texts, Load(files));
  std::unique_ptr<TlsWatch> out(new TlsWatch(files, std::move(texts)));
  out->thread_ = StartThread("passband-tls",
                             [self = out.get()](const std::stop_token& stop) { self->Run(stop); });
  return out;
}

TlsWatch::TlsWatch(TlsFiles files, TlsTexts texts)
    : files_(std::move(files)), texts_(std::make_shared<const TlsTexts>(std::move(texts))) {}

std::shared_ptr<const TlsTexts> TlsWatch::texts() const {
  const MutexLock lock(mutex_);
  return texts_;
}

TlsWatch::Stats TlsWatch::stats() const {
  const MutexLock lock(mutex_);
  return {.healthy = fault_.empty(),
          .taken = taken_,
          .refused = refused_,
          .valid_from_seconds = SinceEpoch(texts_->valid_from),
          .valid_until_seconds = SinceEpoch(texts_->valid_until)};
}

void TlsWatch::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      const MutexLock lock(mutex_);
      wakes_.wait_for(mutex_, stop, kInterval, [] { return false; });
    }
    if (!stop.stop_requested()) Look();
  }
}

void TlsWatch::Look() {
  StatusOr<TlsTexts> found = Load(files_);
  const MutexLock lock(mutex_);
  if (!found.ok()) return Refuse(found.status());
  fault_.clear();
  if (!Same(*found, *texts_)) Take(*std::move(found));
}

void TlsWatch::Take(TlsTexts texts) {
  texts_ = std::make_shared<const TlsTexts>(std::move(texts));
  ++taken_;
  log::Info("certificates_renewed", {{"certificate", files_.certificate},
                                     {"valid_until_s", SinceEpoch(texts_->valid_until)}});
}

void TlsWatch::Refuse(const Status& why) {
  if (fault_ == Message(why)) return;
  fault_ = Message(why);
  ++refused_;
  log::Warn("certificates_refused", {{"why", why}, {"serving", "those before them"}});
}

}  // namespace passband::server
