// The Passband client: keys and values of long contexts, kept by a service.
//
//   auto client = passband::client::Client::Connect({.server = "127.0.0.1:50061"});
//   if (!client.ok()) return Fail(client.status().message());
//   auto opened = client->Open({.model = fingerprint, .token_ids = prompt});
//   ...
//   // One layer's new tokens, at most 64 that lie in one block:
//   client->Append({.sequence = opened->sequence, .layer = 0, .first_token = 0, .count = 64,
//                   .rows = rows});
//   client->Flush(opened->sequence);
//   // Rows by index, of many sequences, layers and heads at once:
//   client::Rows pending = client->Fetch({{opened->sequence, 0, 0, selected}}, row_bytes);
//   auto rows = pending.Wait();  // in the order asked for
//
// A row is one token's [K | V] of one (layer, kv head).
//
// Units      lengths and indices in tokens.
// Threads    safe; one sequence has one appending thread at a time.
// Ownership  Rows own the memory they land in, and may outlive the client.
// Errors     status.h; a call never waits longer than its timeout.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "passband/status.h"

namespace passband::client {

struct ConnectOptions {
  // Control address, host:port; several with commas; or dns:///name:port, each address of a name.
  // Of several servers each sequence is on one: those with the same first 64 token ids on the
  // same. A server that is gone takes its sequences along (kNotFound: open them again).
  std::string server = "127.0.0.1:50061";
  std::string tenant;                    // empty: the certificate's, or "default"
  std::string name = "passband-client";  // for people who look at the server
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds control_timeout{5000};
  std::chrono::milliseconds data_timeout{2000};
  std::string transports = "auto";  // of UCX
  std::string net_devices;          // of UCX; empty: all
  // How rows travel: "ucx", "grpc", or "auto": UCX, unless the server has none or the
  // connection is encrypted.
  std::string data_plane = "auto";
  // PEM files: the server's authority, and who this client is. Naming one turns TLS on.
  std::string tls_ca;
  std::string tls_certificate;
  std::string tls_key;
  std::string tls_server_name;  // as the server's certificate has it; empty: its host
};

struct Model {
  std::string fingerprint;  // "architecture:weights"; equal ones mean equal rows
  std::string name;
  uint32_t layers = 0;
  uint32_t query_heads = 0;
  uint32_t kv_heads = 0;
  uint16_t head_dim = 128;
  uint16_t rotary_dim = 128;
  std::string dtype = "bf16";        // "f16", "f32"
  std::string rope_layout = "half";  // "interleaved"
};

struct OpenRequest {
  std::string model;  // fingerprint of a registered model
  std::vector<uint32_t> token_ids;
  bool share_prefix = true;
  // Closed when nobody used it for so long, sealed or not; zero: as the server is set up.
  std::chrono::milliseconds ttl{};
};
struct Opened {
  uint64_t sequence = 0;
  uint64_t matched_tokens = 0;  // of a shared prefix; their rows are there already
};

struct AppendRequest {
  uint64_t sequence = 0;
  uint32_t layer = 0;
  uint64_t first_token = 0;
  uint32_t count = 0;               // within one block of 64 tokens
  std::span<const std::byte> rows;  // [kv_head][count][row bytes]
};

struct FetchGroup {
  uint64_t sequence = 0;
  uint32_t layer = 0;
  uint32_t kv_head = 0;
  std::span<const uint32_t> tokens;
};

struct Range {
  uint64_t sequence = 0;
  uint32_t layer = 0;
  uint64_t first_token = 0;
  uint64_t count = 0;
};

struct SequenceStat {
  uint64_t sequence = 0;
  std::string tenant;
  std::string model;
  bool sealed = false;
  uint64_t committed_tokens = 0;
  uint64_t known_tokens = 0;
  uint64_t shared_tokens = 0;
  uint64_t resident_bytes = 0;
  double idle_seconds = 0;
  std::chrono::milliseconds ttl{};         // zero: none
  std::chrono::milliseconds pinned_for{};  // zero: it is not
};

// What a client knows of one of its servers.
struct ServerState {
  std::string address;
  bool available = false;
  std::string why;     // it is not
  uint64_t epoch = 0;  // another one after each start of the server
  uint64_t connections = 0;
  uint64_t lost_connections = 0;
};

// How to cut slices from keys; made by `passband calibrate`.
class SliceProfile {
 public:
  static Result<SliceProfile> Load(const std::string& path);
  size_t slice_bytes() const;

 private:
  friend class Client;
  struct Impl;
  explicit SliceProfile(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

// An answer on its way.
class Rows {
 public:
  Rows(Rows&&) noexcept;
  Rows& operator=(Rows&&) noexcept;
  ~Rows();

  bool Ready();
  // The bytes live as long as this object.
  Result<std::span<const std::byte>> Wait();

 private:
  friend class Client;
  struct Impl;
  explicit Rows(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Client {
 public:
  static Result<Client> Connect(const ConnectOptions& options);
  // The same over a store in this process, without a server.
  static Result<Client> Embedded(uint64_t ram_bytes, const std::string& tenant = "default");
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  Status RegisterModel(const Model& model);
  Result<Opened> Open(const OpenRequest& request);
  // A second sequence that shares the first `tokens` tokens.
  Result<uint64_t> Fork(uint64_t sequence, uint64_t tokens);
  // Names appended tokens, so that their blocks are found by prefix.
  Status Extend(uint64_t sequence, uint64_t first, std::span<const uint32_t> token_ids);
  Status Truncate(uint64_t sequence, uint64_t tokens);
  // No more appends; the sequence outlives this client.
  Status Seal(uint64_t sequence);
  // Keeps a sealed sequence, and its rows in RAM, for a time (zero: an hour), whatever becomes of
  // this client; kResourceExhausted beyond what the tenant may pin. Renews a pin.
  Status Pin(uint64_t sequence, std::chrono::milliseconds time = {});
  Status Unpin(uint64_t sequence);
  Status Close(uint64_t sequence);
  Result<SequenceStat> Stat(uint64_t sequence);
  // In the order of ids, after `after`; limit 0: as many as the service sends.
  Result<std::vector<SequenceStat>> List(uint64_t after = 0, uint32_t limit = 0);
  // How many tokens of a prompt are there already.
  Result<uint64_t> Lookup(const std::string& model, std::span<const uint32_t> token_ids);

  // Copies `rows` and sends them behind the caller's back; a failure shows in
  // Flush() and in later appends to the sequence.
  Status Append(const AppendRequest& request);
  Status Flush(uint64_t sequence);

  // Rows in the order asked for.
  Rows Fetch(std::span<const FetchGroup> groups, uint32_t row_bytes);
  Rows Fetch(std::initializer_list<FetchGroup> groups, uint32_t row_bytes);
  // [kv_head][count][row bytes]
  Rows Read(const Range& range);
  // [kv_head][count][slice bytes], cut by the service.
  Rows Slices(const Range& range, const SliceProfile& profile);

  // The servers that this client knows; none when embedded.
  std::vector<ServerState> servers() const;
  // What carries the rows: "shm", "tcp", "rdma", "grpc", "grpc+tls" or "embedded".
  std::string transport() const;

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband::client
