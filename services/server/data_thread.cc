#include "services/server/data_thread.h"

#include <utility>

#include "base/thread.h"

namespace passband::server {
namespace {

// How often connections are looked after, and requests that wait for memory.
constexpr std::chrono::milliseconds kTendInterval{200};
constexpr std::chrono::milliseconds kExpireInterval{2};

}  // namespace

// What the thread works with, in the order of its making. The worker goes first: its end runs the
// `done` of every transfer, and those look at the rest.
struct DataThread::Core {
  Core(const Dispatcher::Parts& parts, std::unique_ptr<Staging> memory, std::function<void()> wake)
      : counters(parts.counters),
        staging(std::move(memory)),
        queue(*staging),
        router(parts, *staging, queue, std::move(wake)) {}
  ~Core() {
    router.CloseAll();
    worker.reset();
  }

  static StatusOr<std::unique_ptr<Core>> Create(const Options& options,
                                                const Dispatcher::Parts& parts,
                                                std::function<void()> wake);

  ThreadCounters& counters;
  const std::unique_ptr<Staging> staging;
  ReplyQueue queue;
  RequestRouter router;
  std::vector<std::promise<void>> drains;
  std::shared_ptr<transport::UcxWorker> worker;
};

StatusOr<std::unique_ptr<DataThread::Core>> DataThread::Core::Create(const Options& options,
                                                                     const Dispatcher::Parts& parts,
                                                                     std::function<void()> wake) {
  PASSBAND_ASSIGN_OR_RETURN(
      auto staging, Staging::Create(options.ucx, options.staging_bytes, options.huge_pages));
  auto core = std::make_unique<Core>(parts, std::move(staging), std::move(wake));
  PASSBAND_ASSIGN_OR_RETURN(core->worker, transport::UcxWorker::Create(options.ucx));
  PASSBAND_RETURN_IF_ERROR(core->router.Register(core->worker));
  return core;
}

StatusOr<std::unique_ptr<DataThread>> DataThread::Start(const Options& options,
                                                        const Dispatcher::Parts& parts) {
  std::unique_ptr<DataThread> out(new DataThread());
  std::promise<Status> started;
  std::future<Status> outcome = started.get_future();
  // std::function copies, a promise does not: hand it over behind a pointer.
  auto promise = std::make_shared<std::promise<Status>>(std::move(started));
  out->thread_ =
      StartThread(fmt::format("passband-data{}", parts.thread),
                  [self = out.get(), options, parts, promise](const std::stop_token& stop) {
                    self->Run(stop, options, parts, std::move(*promise));
                  });
  PASSBAND_RETURN_IF_ERROR(outcome.get());
  return out;
}

DataThread::~DataThread() = default;

void DataThread::Run(const std::stop_token& stop, const Options& options,
                     const Dispatcher::Parts& parts, std::promise<Status> started) {
  auto core = Core::Create(options, parts, [this] { Wake(); });
  if (!core.ok()) {
    started.set_value(core.status());
    return;
  }
  const auto address = (*core)->worker->address();
  address_.assign(address.begin(), address.end());
  {
    const MutexLock lock(mutex_);
    worker_ = (*core)->worker.get();
  }
  started.set_value(OkStatus());
  {
    const std::stop_callback wake(stop, [this] { Wake(); });
    Loop(stop, **core);
  }
  const MutexLock lock(mutex_);
  worker_ = nullptr;
}

void DataThread::Loop(const std::stop_token& stop, Core& core) {
  core.counters.staging_capacity_bytes.Set(core.staging->capacity_bytes());
  Time next_tend{};
  while (!stop.stop_requested()) {
    core.worker->Progress();
    if (mail_.load(std::memory_order_acquire)) ReadInbox(core);
    core.router.CloseLost();
    const bool restored = core.router.Continue();
    if (!core.queue.RunSlice() && !restored) Rest(core);
    core.counters.staging_used_bytes.Set(core.staging->used_bytes());
    const Time now = std::chrono::steady_clock::now();
    if (core.queue.waiting()) core.queue.ExpireWaiting(now);
    if (now < next_tend) continue;
    next_tend = now + kTendInterval;
    core.router.Tend(now);
  }
}

void DataThread::Rest(Core& core) {
  if (core.queue.size() + core.router.waiting() == 0 && core.worker->outstanding() == 0) {
    for (std::promise<void>& drained : std::exchange(core.drains, {})) drained.set_value();
  }
  core.worker->WaitForEvent(core.queue.waiting() ? Duration(kExpireInterval)
                                                 : Duration(kTendInterval));
}

void DataThread::ReadInbox(Core& core) {
  Inbox inbox;
  {
    const MutexLock lock(mutex_);
    inbox = std::exchange(inbox_, {});
    mail_.store(false, std::memory_order_relaxed);
  }
  for (const uint64_t session : inbox.closed_sessions) core.router.CloseSession(session);
  for (std::promise<void>& drain : inbox.drains) {
    core.router.StopAdmitting();
    core.drains.push_back(std::move(drain));
  }
}

void DataThread::CloseSession(uint64_t session) {
  const MutexLock lock(mutex_);
  inbox_.closed_sessions.push_back(session);
  WakeLocked();
}

std::future<void> DataThread::Drain() {
  const MutexLock lock(mutex_);
  inbox_.drains.emplace_back();
  std::future<void> drained = inbox_.drains.back().get_future();
  WakeLocked();
  return drained;
}

void DataThread::Wake() {
  const MutexLock lock(mutex_);
  WakeLocked();
}

void DataThread::WakeLocked() {
  mail_.store(true, std::memory_order_release);
  if (worker_ != nullptr) worker_->Wake();
}

}  // namespace passband::server
