#include "services/console/table.h"

#include <algorithm>

namespace passband {
namespace {

constexpr size_t kGap = 2;

std::string Pad(const std::string& cell, size_t width, Align align) {
  const std::string space(width - std::min(width, DisplayWidth(cell)), ' ');
  return align == Align::kLeft ? cell + space : space + cell;
}

void TrimRight(std::string& line) { line.erase(line.find_last_not_of(' ') + 1); }

}  // namespace

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(DisplayWidth(column.heading));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  return widths;
}

bool Table::HasHeadings() const {
  return std::any_of(columns_.begin(), columns_.end(),
                     [](const Column& column) { return !column.heading.empty(); });
}

std::string Table::Text(const Terminal& terminal, size_t indent) const {
  const std::vector<size_t> widths = Widths();
  const auto line_of = [&](const auto& cell_of) {
    std::string line(indent, ' ');
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (i > 0) line.append(kGap, ' ');
      line += Pad(cell_of(i), widths[i], columns_[i].align);
    }
    TrimRight(line);
    return line;
  };
  std::string text;
  if (HasHeadings()) {
    text += terminal.Dim(line_of([&](size_t i) { return columns_[i].heading; })) + "\n";
  }
  for (const auto& row : rows_) text += line_of([&](size_t i) { return row[i]; }) + "\n";
  return text;
}

}  // namespace passband
