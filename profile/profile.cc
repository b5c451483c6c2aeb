#include "profile/profile.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "base/hash.h"

namespace passband {
namespace {

using Json = nlohmann::json;

constexpr char kSchema[] = "passband.profile/v1";
constexpr uint64_t kMaxFileBytes = 256ULL << 20;
constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxHeads = 1024;

std::string GranularityName(Profile::Granularity granularity) {
  return granularity == Profile::Granularity::kKvHead ? "kv_head" : "query_head";
}

Status Malformed(const std::string& field, const std::string& what) {
  return Error(StatusCode::kInvalidArgument, "profile field '{}' {}", field, what);
}

// Reads members of one JSON object; remembers the first thing that is wrong.
class Reader {
 public:
  Reader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  std::string Text(const char* name) {
    const Json* value = Member(name);
    if (value == nullptr) return "";
    if (!value->is_string()) return Fail(name, "must be a string"), "";
    return value->get<std::string>();
  }

  uint64_t Count(const char* name, uint64_t limit) {
    const Json* value = Member(name);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned() || value->get<uint64_t>() > limit) {
      return Fail(name, fmt::format("must be a whole number up to {}", limit)), 0;
    }
    return value->get<uint64_t>();
  }

  std::vector<float> Floats(const char* name) {
    std::vector<float> out;
    const Json* value = Member(name);
    if (value == nullptr) return out;
    if (!value->is_array()) return Fail(name, "must be a list of numbers"), out;
    for (const Json& item : *value) {
      if (!item.is_number()) return Fail(name, "must be a list of numbers"), out;
      out.push_back(static_cast<float>(item.get<double>()));
    }
    return out;
  }

  std::vector<uint16_t> Chunks(const char* name) {
    std::vector<uint16_t> out;
    const Json* value = Member(name);
    if (value == nullptr) return out;
    if (!value->is_array()) return Fail(name, "must be a list of chunk numbers"), out;
    for (const Json& item : *value) {
      if (!item.is_number_unsigned() || item.get<uint64_t>() >= kernels::kMaxChunks) {
        return Fail(name, "must be a list of chunk numbers"), out;
      }
      out.push_back(item.get<uint16_t>());
    }
    return out;
  }

  const Json* Object(const char* name) { return Typed(name, Json::value_t::object, "an object"); }
  const Json* Array(const char* name) { return Typed(name, Json::value_t::array, "a list"); }

  template <typename T>
  T Parsed(const char* name, StatusOr<T> (*parse)(const std::string&)) {
    const std::string text = Text(name);
    if (!status_.ok()) return T{};
    StatusOr<T> value = parse(text);
    if (!value.ok()) return status_ = Annotate(value.status(), path_ + name), T{};
    return *value;
  }

  const Status& status() const { return status_; }

 private:
  const Json* Member(const char* name) {
    if (!status_.ok()) return nullptr;
    const auto found = object_.find(name);
    if (found == object_.end()) return Fail(name, "is missing"), nullptr;
    return &*found;
  }

  const Json* Typed(const char* name, Json::value_t type, const char* expected) {
    const Json* value = Member(name);
    if (value == nullptr || value->type() == type) return value;
    return Fail(name, fmt::format("must be {}", expected)), nullptr;
  }

  void Fail(const char* name, const std::string& what) {
    if (status_.ok()) status_ = Malformed(path_ + name, what);
  }

  const Json& object_;
  std::string path_;
  Status status_;
};

// nlohmann throws on malformed text; deep nesting cannot be legitimate.
StatusOr<Json> ParseJson(const std::string& text) {
  constexpr int kMaxDepth = 8;
  bool too_deep = false;
  const auto limit = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) too_deep = true;
    return !too_deep;
  };
  Json root = Json::parse(text, limit, /*allow_exceptions=*/false);
  if (root.is_discarded() || too_deep || !root.is_object()) {
    return Error(StatusCode::kInvalidArgument, "the profile is not valid JSON");
  }
  return root;
}

Json HeadsToJson(const Profile& profile) {
  Json heads = Json::array();
  for (const auto& spec : profile.specs) {
    heads.push_back(
        {{"chunks", spec->chunks}, {"mean", spec->mean}, {"deviation", spec->deviation}});
  }
  return heads;
}

Json Body(const Profile& profile) {
  const Profile::Provenance& made = profile.provenance;
  return {
      {"schema", kSchema},
      {"model",
       {{"name", profile.model_name},
        {"architecture", profile.fingerprint.architecture},
        {"weights", profile.fingerprint.weights},
        {"layers", profile.layers},
        {"query_heads", profile.query_heads},
        {"kv_heads", profile.kv_heads},
        {"head_dim", profile.shape.head_dim},
        {"rotary_dim", profile.shape.rotary_dim},
        {"rope_layout", RopeLayoutName(profile.shape.layout)},
        {"dtype", DTypeName(profile.shape.dtype)}}},
      {"granularity", GranularityName(profile.granularity)},
      {"encoding", EncodingName(profile.encoding)},
      {"provenance",
       {{"selector", made.selector},
        {"pairing", made.pairing},
        {"text_digest", made.text_digest},
        {"tool_version", made.tool_version},
        {"documents", made.documents},
        {"context_tokens", made.context_tokens},
        {"positions", made.positions},
        {"top_k", made.top_k},
        {"seed", made.seed}}},
      {"heads", HeadsToJson(profile)},
  };
}

std::string DigestOf(const Profile& profile) {
  const std::string canonical = Body(profile).dump();
  return ToHex(HashSha256(std::as_bytes(std::span(canonical))));
}

Status CheckShape(const Profile& profile) {
  const kernels::HeadShape& shape = profile.shape;
  if (shape.head_dim == 0 || shape.head_dim > kernels::kMaxHeadDim) {
    return Malformed("model.head_dim", "is out of range");
  }
  if (shape.rotary_dim == 0 || shape.rotary_dim % 2 != 0 || shape.rotary_dim > shape.head_dim) {
    return Malformed("model.rotary_dim", "must be even and at most head_dim");
  }
  if (profile.layers == 0 || profile.kv_heads == 0 || profile.query_heads == 0) {
    return Malformed("model", "has no layers or heads");
  }
  if (profile.query_heads % profile.kv_heads != 0 ||
      profile.query_heads / profile.kv_heads > kernels::kMaxGroup) {
    return Malformed("model.query_heads", "is not a supported multiple of kv_heads");
  }
  return OkStatus();
}

Status CheckSpec(const Profile& profile, const kernels::SliceSpec& spec, size_t index) {
  const std::string where = fmt::format("heads[{}]", index);
  if (spec.chunks.empty() || spec.chunks.size() != profile.specs[0]->chunks.size()) {
    return Malformed(where + ".chunks", "must not be empty, and equally long for every head");
  }
  const std::set<uint16_t> unique(spec.chunks.begin(), spec.chunks.end());
  if (unique.size() != spec.chunks.size() || *unique.rbegin() >= profile.shape.chunks()) {
    return Malformed(where + ".chunks", "names a chunk twice, or one that the model lacks");
  }
  const auto components = static_cast<size_t>(spec.components());
  if (spec.mean.size() != components || spec.deviation.size() != components) {
    return Malformed(where, "needs one mean and one deviation for each of its components");
  }
  for (size_t c = 0; c < components; ++c) {
    if (!std::isfinite(spec.mean[c]) || !std::isfinite(spec.deviation[c]) ||
        spec.deviation[c] <= 0) {
      return Malformed(where, "needs finite means and positive deviations");
    }
  }
  return OkStatus();
}

Status ReadModel(const Json& model, Profile& out) {
  Reader reader(model, "model.");
  out.model_name = reader.Text("name");
  out.fingerprint.architecture = reader.Text("architecture");
  out.fingerprint.weights = reader.Text("weights");
  out.layers = static_cast<uint32_t>(reader.Count("layers", kMaxLayers));
  out.query_heads = static_cast<uint32_t>(reader.Count("query_heads", kMaxHeads));
  out.kv_heads = static_cast<uint32_t>(reader.Count("kv_heads", kMaxHeads));
  out.shape.head_dim = static_cast<uint16_t>(reader.Count("head_dim", kernels::kMaxHeadDim));
  out.shape.rotary_dim = static_cast<uint16_t>(reader.Count("rotary_dim", kernels::kMaxHeadDim));
  out.shape.layout = reader.Parsed("rope_layout", &ParseRopeLayout);
  out.shape.dtype = reader.Parsed("dtype", &ParseDType);
  return reader.status();
}

Status ReadProvenance(const Json& json, Profile::Provenance& out) {
  constexpr uint64_t kAny32 = 0xffffffffULL;
  Reader reader(json, "provenance.");
  out.selector = reader.Text("selector");
  out.pairing = reader.Text("pairing");
  out.text_digest = reader.Text("text_digest");
  out.tool_version = reader.Text("tool_version");
  out.documents = static_cast<uint32_t>(reader.Count("documents", kAny32));
  out.context_tokens = static_cast<uint32_t>(reader.Count("context_tokens", kAny32));
  out.positions = static_cast<uint32_t>(reader.Count("positions", kAny32));
  out.top_k = static_cast<uint32_t>(reader.Count("top_k", kAny32));
  out.seed = reader.Count("seed", ~uint64_t{0});
  return reader.status();
}

// The adjacent pairing takes dims (2i, 2i + 1) whatever the model's layout.
kernels::HeadShape SliceShape(const Profile& profile) {
  kernels::HeadShape shape = profile.shape;
  if (profile.provenance.pairing == "adjacent") shape.layout = kernels::RopeLayout::kInterleaved;
  return shape;
}

Status ReadHeads(const Json& heads, Profile& out) {
  for (size_t i = 0; i < heads.size(); ++i) {
    if (!heads[i].is_object()) return Malformed(fmt::format("heads[{}]", i), "must be an object");
    Reader reader(heads[i], fmt::format("heads[{}].", i));
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = SliceShape(out);
    spec->encoding = out.encoding;
    spec->chunks = reader.Chunks("chunks");
    spec->mean = reader.Floats("mean");
    spec->deviation = reader.Floats("deviation");
    PASSBAND_RETURN_IF_ERROR(reader.status());
    out.specs.push_back(std::move(spec));
  }
  return OkStatus();
}

Status ReadBody(const Json& root, Profile& out, std::string& digest) {
  Reader reader(root, "");
  const std::string schema = reader.Text("schema");
  const Json* model = reader.Object("model");
  const std::string granularity = reader.Text("granularity");
  out.encoding = reader.Parsed("encoding", &ParseEncoding);
  const Json* provenance = reader.Object("provenance");
  const Json* heads = reader.Array("heads");
  digest = reader.Text("digest");
  PASSBAND_RETURN_IF_ERROR(reader.status());
  if (schema != kSchema) {
    return Error(StatusCode::kInvalidArgument,
                 "this is not a profile that this version reads: schema '{}', expected '{}'",
                 schema, kSchema);
  }
  if (granularity != "kv_head" && granularity != "query_head") {
    return Malformed("granularity", "must be kv_head or query_head");
  }
  out.granularity =
      granularity == "kv_head" ? Profile::Granularity::kKvHead : Profile::Granularity::kQueryHead;
  PASSBAND_RETURN_IF_ERROR(ReadModel(*model, out));
  PASSBAND_RETURN_IF_ERROR(ReadProvenance(*provenance, out.provenance));
  return ReadHeads(*heads, out);
}

}  // namespace

Status Profile::Finish() {
  PASSBAND_RETURN_IF_ERROR(CheckShape(*this));
  if (provenance.pairing != "rope" && provenance.pairing != "adjacent") {
    return Malformed("provenance.pairing", "must be rope or adjacent");
  }
  const size_t heads = size_t{layers} * heads_per_layer();
  if (specs.size() != heads) {
    return Malformed("heads",
                     fmt::format("has {} entries, the model needs {}", specs.size(), heads));
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    PASSBAND_RETURN_IF_ERROR(CheckSpec(*this, *specs[i], i));
    if (specs[i]->shape != SliceShape(*this) || specs[i]->encoding != encoding) {
      return Malformed(fmt::format("heads[{}]", i), "differs from the profile's shape or encoding");
    }
  }
  digest_ = DigestOf(*this);
  return OkStatus();
}

StatusOr<std::shared_ptr<const Profile>> Profile::Parse(const std::string& json) {
  PASSBAND_ASSIGN_OR_RETURN(const Json root, ParseJson(json));
  auto profile = std::make_shared<Profile>();
  std::string digest;
  PASSBAND_RETURN_IF_ERROR(ReadBody(root, *profile, digest));
  PASSBAND_RETURN_IF_ERROR(profile->Finish());
  if (digest != profile->digest()) {
    return Error(StatusCode::kDataLoss,
                 "the profile's digest does not match its content (it says {}, it is {}): the file "
                 "is damaged or was edited; calibrate again",
                 digest.substr(0, 12), profile->digest().substr(0, 12));
  }
  return std::shared_ptr<const Profile>(std::move(profile));
}

StatusOr<std::shared_ptr<const Profile>> Profile::Load(const std::string& path) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) {
    return Error(StatusCode::kNotFound, "cannot read the profile '{}': {}", path, error.message());
  }
  if (size > kMaxFileBytes) {
    return Error(StatusCode::kInvalidArgument, "'{}' is too large to be a profile", path);
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return Error(StatusCode::kDataLoss, "reading the profile '{}' failed", path);
  auto parsed = Parse(text.str());
  if (!parsed.ok()) return Annotate(parsed.status(), path);
  return parsed;
}

std::string Profile::ToJson() const {
  Json root = Body(*this);
  root["digest"] = digest_;
  // One head a line: readable, and a diff shows which head changed.
  const Json heads = std::move(root["heads"]);
  root.erase("heads");
  std::string text = root.dump(1);
  text.resize(text.size() - 2);
  text += ",\n \"heads\": [";
  for (size_t i = 0; i < heads.size(); ++i) {
    text += i == 0 ? "\n  " : ",\n  ";
    text += heads[i].dump();
  }
  return text + "\n ]\n}\n";
}

Status Profile::Save(const std::string& path) const {
  const std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  std::ofstream file(temporary, std::ios::binary);
  file << ToJson();
  file.close();
  if (!file || std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return Error(StatusCode::kPermissionDenied, "cannot write the profile '{}'", path);
  }
  return OkStatus();
}

Status Profile::CheckModel(const ModelFingerprint& model) const {
  if (model == fingerprint) return OkStatus();
  const bool same_architecture = model.architecture == fingerprint.architecture;
  return Error(StatusCode::kFailedPrecondition,
               "the profile was made for another {} ({}, fingerprint {}); the model loaded has {}. "
               "Calibrate a profile for it with 'passband calibrate'",
               same_architecture ? "checkpoint" : "architecture", model_name,
               fingerprint.short_text(), model.short_text());
}

}  // namespace passband
