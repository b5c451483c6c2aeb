// Table: rows of text under aligned headings.
//
//   Table table({{"method"}, {"score", Align::kRight}});
//   table.AddRow({"fasa", "0.990"});
//   std::fputs(table.Text(terminal).c_str(), stdout);
//
// Threads  one at a time.
#pragma once

#include <string>
#include <vector>

#include "services/console/terminal.h"

namespace passband {

enum class Align { kLeft, kRight };

struct Column {
  std::string heading;
  Align align = Align::kLeft;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Missing cells stay empty; cells may carry styles.
  void AddRow(std::vector<std::string> cells);

  // Every line ends with a newline; `indent` spaces before each. Without any
  // headings there is no heading line.
  std::string Text(const Terminal& terminal, size_t indent = 0) const;

 private:
  std::vector<size_t> Widths() const;
  bool HasHeadings() const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace passband
