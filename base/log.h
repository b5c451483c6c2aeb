// Log: one event a line, a name and fields (logfmt), on standard error.
//
//   log::Info("sequence_opened", {{"sequence", id}, {"matched_tokens", n}});
//   22:10:03.123 info sequence_opened sequence=42 matched_tokens=128
//
// Levels   error: a person must act; warn: we coped; info: once per sequence
//          or rarer; debug: per request. Nothing per row.
// Threads  safe.
#pragma once

#include <initializer_list>
#include <string>
#include <type_traits>

#include "base/status.h"

namespace passband::log {

// A name and a value that already reads as text.
struct Field {
  template <typename T>
  Field(const char* field_name, const T& field_value)
      : name(field_name), value(fmt::format("{}", field_value)) {}
  Field(const char* field_name, const Status& status)
      : name(field_name), value(status.ToString()) {}

  const char* name;
  std::string value;
};

using Fields = std::initializer_list<Field>;

void Debug(const char* event, Fields fields = {});
void Info(const char* event, Fields fields = {});
void Warn(const char* event, Fields fields = {});
void Error(const char* event, Fields fields = {});

// "debug", "info", "warn", "error" or "off"; format "text" (logfmt) or "json".
// Call it once, before threads start. Without it: level info, format text.
Status Configure(const std::string& level, const std::string& format);

}  // namespace passband::log
