// UseHelpFormat: --help that fits a terminal of 80 columns.
//
// Call it before adding subcommands; they take it over.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace passband {

void UseHelpFormat(CLI::App& app);

// `text` with its lines broken at spaces, so that none is longer than `width`
// where a word allows it.
std::string WrapText(const std::string& text, size_t width);

}  // namespace passband
