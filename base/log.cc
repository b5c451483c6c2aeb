#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

namespace passband {

void CheckFailed(const char* expression, const char* file, int line) {
  log::Error("check_failed", {{"expression", expression}, {"file", file}, {"line", line}});
  std::abort();
}

namespace log {
namespace {

std::atomic<bool>& JsonFlag() {
  static std::atomic<bool> json = false;
  return json;
}

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>("passband",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%H:%M:%S.%e %l %v");
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

void AppendQuoted(std::string& out, const std::string& text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string RenderText(const char* event, Fields fields) {
  std::string line = event;
  for (const Field& field : fields) {
    line += ' ';
    line += field.name;
    line += '=';
    const bool plain =
        !field.value.empty() && field.value.find_first_of(" \"=\n\t") == std::string::npos;
    if (plain) {
      line += field.value;
    } else {
      AppendQuoted(line, field.value);
    }
  }
  return line;
}

std::string RenderJson(const char* event, Fields fields) {
  std::string line = "\"event\":";
  AppendQuoted(line, event);
  for (const Field& field : fields) {
    line += ',';
    AppendQuoted(line, field.name);
    line += ':';
    AppendQuoted(line, field.value);
  }
  return line + '}';
}

void Write(spdlog::level::level_enum level, const char* event, Fields fields) {
  if (!Logger().should_log(level)) return;
  Logger().log(level, "{}", JsonFlag() ? RenderJson(event, fields) : RenderText(event, fields));
}

}  // namespace

void Debug(const char* event, Fields fields) { Write(spdlog::level::debug, event, fields); }
void Info(const char* event, Fields fields) { Write(spdlog::level::info, event, fields); }
void Warn(const char* event, Fields fields) { Write(spdlog::level::warn, event, fields); }
void Error(const char* event, Fields fields) { Write(spdlog::level::err, event, fields); }

Status Configure(const std::string& level, const std::string& format) {
  const auto parsed = spdlog::level::from_str(level);
  const bool known = level == "off" || parsed != spdlog::level::off;
  if (!known) {
    return passband::Error(StatusCode::kInvalidArgument,
                           "log level '{}' is unknown; choose debug, info, warn, error or off",
                           level);
  }
  if (format != "text" && format != "json") {
    return passband::Error(StatusCode::kInvalidArgument,
                           "log format '{}' is unknown; choose text or json", format);
  }
  JsonFlag() = format == "json";
  Logger().set_pattern(format == "json" ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%e%z\",\"level\":\"%l\",%v"
                                        : "%H:%M:%S.%e %l %v");
  Logger().set_level(parsed);
  return OkStatus();
}

}  // namespace log
}  // namespace passband
