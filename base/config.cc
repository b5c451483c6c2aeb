#include "base/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <vector>

namespace passband {
namespace {

constexpr char kConfigFlag[] = "--config";

// Edit distance, for "did you mean".
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

// The program and its subcommands.
std::vector<CLI::App*> Parts(CLI::App& app) {
  std::vector<CLI::App*> parts = app.get_subcommands([](const CLI::App*) { return true; });
  parts.insert(parts.begin(), &app);
  return parts;
}

std::string Nearest(CLI::App& app, const std::string& key) {
  std::string best;
  size_t best_distance = 4;
  for (const CLI::App* part : Parts(app)) {
    for (const CLI::Option* option : part->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        const size_t distance = Distance(name, key);
        if (distance >= best_distance) continue;
        best = name;
        best_distance = distance;
      }
    }
  }
  return best;
}

// The file named by --config or its environment variable, or "".
std::string ConfigPath(const CLI::App& app, int argc, const char* const* argv) {
  const std::string flag = kConfigFlag;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == flag && i + 1 < argc) return argv[i + 1];
    if (argument.rfind(flag + "=", 0) == 0) return argument.substr(flag.size() + 1);
  }
  const std::string environment = app.get_option(kConfigFlag)->get_envname();
  const char* from_environment = std::getenv(environment.c_str());
  return from_environment == nullptr ? "" : from_environment;
}

// Makes one key of the file the default of its options. Returns what is wrong,
// or "".
std::string ApplyKey(CLI::App& app, const std::string& key, const YAML::Node& value) {
  std::vector<CLI::Option*> options;
  if (key != "config" && key != "help" && key != "version") {
    for (CLI::App* part : Parts(app)) {
      if (auto* option = part->get_option_no_throw("--" + key); option != nullptr) {
        options.push_back(option);
      }
    }
  }
  if (options.empty()) {
    const std::string nearest = Nearest(app, key);
    return "unknown key '" + key + "'" +
           (nearest.empty() ? "" : "; did you mean '" + nearest + "'?");
  }
  if (!value.IsScalar()) return "key '" + key + "' needs a single value";
  try {
    for (CLI::Option* option : options) option->default_val(value.as<std::string>());
  } catch (const CLI::Error& error) {
    return "key '" + key + "': " + error.what();
  }
  return "";
}

Status ApplyFile(CLI::App& app, const std::string& path) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(path);
  } catch (const YAML::BadFile&) {
    return Error(StatusCode::kInvalidArgument, "cannot read the config file '{}'", path);
  } catch (const YAML::Exception& error) {
    return Error(StatusCode::kInvalidArgument, "{}:{}: {}", path, error.mark.line + 1, error.msg);
  }
  if (root.IsNull()) return OkStatus();
  if (!root.IsMap()) {
    return Error(StatusCode::kInvalidArgument, "{}: write settings as 'name: value' lines", path);
  }
  std::string faults;
  for (const auto& entry : root) {
    const std::string fault = entry.first.IsScalar()
                                  ? ApplyKey(app, entry.first.Scalar(), entry.second)
                                  : "a key is a setting's name";
    if (fault.empty()) continue;
    faults += fmt::format("{}{}:{}: {}", faults.empty() ? "" : "\n", path,
                          entry.first.Mark().line + 1, fault);
  }
  return faults.empty() ? OkStatus() : Status(StatusCode::kInvalidArgument, faults);
}

}  // namespace

void AddConfigFlag(CLI::App& app, const std::string& environment) {
  app.add_option(kConfigFlag,
                 "Read settings from this YAML file; environment and flags override it")
      ->type_name("FILE")
      ->envname(environment);
}

Status LoadConfig(CLI::App& app, int argc, const char* const* argv) {
  const std::string path = ConfigPath(app, argc, argv);
  if (!path.empty()) PASSBAND_RETURN_IF_ERROR(ApplyFile(app, path));
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    app.exit(success, std::cout, std::cerr);
    return Status(StatusCode::kCancelled, "");
  } catch (const CLI::ParseError& error) {
    return Error(StatusCode::kInvalidArgument, "{}\nRun with --help for the settings.",
                 error.what());
  }
  return OkStatus();
}

}  // namespace passband
