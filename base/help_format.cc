#include "base/help_format.h"

#include <sstream>

namespace passband {
namespace {

constexpr size_t kWidth = 80;
constexpr size_t kNames = 26;

class HelpFormat final : public CLI::Formatter {
 public:
  HelpFormat() { column_width(kNames); }

  // TYPE=default; what an option may not be is said when it is.
  std::string make_option_opts(const CLI::Option* option) const override {
    std::ostringstream out;
    if (option->get_type_size() != 0) {
      out << " " << TypeOf(*option);
      if (!option->get_default_str().empty()) out << "=" << option->get_default_str();
      if (option->get_expected_max() >= CLI::detail::expected_max_vector_size) out << " ...";
      if (option->get_required()) out << " (required)";
    }
    if (!option->get_envname().empty()) out << " (env " << option->get_envname() << ")";
    return out.str();
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    return WrapText(CLI::Formatter::make_option_desc(option), kWidth - kNames);
  }
  std::string make_subcommand(const CLI::App* command) const override {
    std::ostringstream out;
    CLI::detail::format_help(out, command->get_name(),
                             WrapText(command->get_description(), kWidth - kNames), kNames);
    return out.str();
  }
  std::string make_description(const CLI::App* app) const override {
    return WrapText(app->get_description(), kWidth) + "\n\n";
  }

 private:
  // "TEXT:{a,b}" -> "{a,b}", "INT:POSITIVE" -> "INT".
  static std::string TypeOf(const CLI::Option& option) {
    const std::string type = option.get_type_name();
    const size_t colon = type.find(':');
    if (colon == std::string::npos) return type;
    const bool members = type.compare(colon + 1, 1, "{") == 0;
    return members ? type.substr(colon + 1) : type.substr(0, colon);
  }
};

}  // namespace

void UseHelpFormat(CLI::App& app) { app.formatter(std::make_shared<HelpFormat>()); }

std::string WrapText(const std::string& text, size_t width) {
  std::string out;
  size_t line_start = 0;  // in out
  size_t last_space = std::string::npos;
  for (const char c : text) {
    out += c;
    if (c == '\n') {
      line_start = out.size();
      last_space = std::string::npos;
      continue;
    }
    if (c == ' ') last_space = out.size() - 1;
    if (out.size() - line_start <= width || last_space == std::string::npos) continue;
    out[last_space] = '\n';
    line_start = last_space + 1;
    last_space = std::string::npos;
  }
  return out;
}

}  // namespace passband
