// A worker that dies by SIGKILL in the middle of an append. Arguments: control address, UCX
// transport list. It seals one sequence, leaves another open and half of a block on its way.
#include <csignal>
#include <iostream>

#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

class DoomedWorker final : public ServerTest {
 public:
  void TestBody() override {}

  void Run(const std::string& address, const std::string& tls) {
    RawClient client(address, "a", tls);
    if (!client.Hello().ok()) std::exit(1);
    const uint64_t open = Open(client);
    const uint64_t sealed = Open(client);
    if (!Fill(client, open, 0, 64).ok() || !Fill(client, sealed, 0, 64).ok()) std::exit(1);
    v1::SealSequenceRequest seal;
    seal.set_sequence(sealed);
    v1::SealSequenceResponse response;
    if (!client.stub().SealSequence(client.Context().get(), seal, &response).ok()) std::exit(1);
    std::cout << open << " " << sealed << std::endl;
    for (uint64_t block = 1; block < 9; ++block) {
      auto append = transport::NewAppend(client.identity(), client.NextId());
      append.sequence = open;
      append.first_token = 64 * block;
      append.count = 64;
      append.row_bytes = kRowBytes;
      append.kv_heads = kKvHeads;
      transport::Sign(client.identity().key, append);
      client.Send(transport::MessageType::kAppend, transport::HeaderBytes(append),
                  Bytes(kBlockBytes), transport::SendMode::kRendezvous);
    }
    std::raise(SIGKILL);
  }
};

}  // namespace
}  // namespace passband::testing

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  passband::testing::DoomedWorker().Run(argv[1], argv[2]);
}
