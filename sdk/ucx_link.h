// UcxLink: a DataLink of UCX active messages.
//
// Threads    data_link.h.
// Ownership  owns worker and endpoint; shares the context.
// Errors     data_link.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sdk/data_link.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_worker.h"

namespace passband {

class UcxLink final : public DataLink {
 public:
  // `address`: of the server's worker.
  static StatusOr<std::unique_ptr<UcxLink>> Create(const transport::UcxOptions& options,
                                                   std::vector<std::byte> address);
  ~UcxLink() override;

  bool Progress() override { return worker_->Progress(); }
  StatusOr<bool> Arm() override { return worker_->Arm(); }
  int event_fd() const override { return worker_->event_fd(); }

  Status Connect(Handlers handlers) override;
  void Send(const CallPtr& call) override;
  bool ordered() const override { return true; }
  // The reply may land in its memory: it stays.
  void Cancel(const Call&) override {}
  void Close() override { endpoint_.reset(); }
  bool connected() const override { return endpoint_ != nullptr && endpoint_->status().ok(); }
  size_t outstanding() const override { return worker_->outstanding(); }
  std::span<const std::byte> hello() const override { return worker_->address(); }
  std::string transport() const override;
  std::shared_ptr<transport::UcxContext> ucx() const override { return context_; }

 private:
  UcxLink(std::shared_ptr<transport::UcxContext> context,
          std::shared_ptr<transport::UcxWorker> worker, std::vector<std::byte> address);

  const std::shared_ptr<transport::UcxContext> context_;
  std::shared_ptr<transport::UcxWorker> worker_;
  const std::vector<std::byte> address_;
  Handlers handlers_;
  std::unique_ptr<transport::UcxEndpoint> endpoint_;
};

}  // namespace passband
