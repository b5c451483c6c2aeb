// Tasks: the documents on which selection quality is measured, and their score.
//
//   needle  book text with "\nThe code for WORD is 123456.\n" at random places;
//           at the end, in one run, "\nWhat is the code for WORD? The code for
//           WORD is 123456." for some of the words. Score: share of queries
//           with all six digits right.
//   recall  book text, then "\nRecall: \"" + 160 bytes copied from a random
//           earlier place + "\"\n", three times. Score: share of right bytes
//           among bytes 40 to 140 of each quotation (the first 40 are the cue).
//   books   plain text. Score: bits per byte.
//
// A document of context T has T + 1 tokens (bytes): a model reads the first T,
// and position p predicts token p + 1. The last min(T, 640) positions are the
// scored ones; all queries and quotations lie inside them.
//
// A document depends on (text, seed, index, settings) only, on every machine.
//
// Threads  const calls are safe.
// Errors   kInvalidArgument: a context, number of keys or text that cannot make
//          a document.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "llama/logits.h"

namespace passband {

inline constexpr uint32_t kScoredPositions = 640;

enum class Task : uint8_t { kNeedle, kRecall, kBooks };

// "needle", "recall", "books".
const char* TaskName(Task task);
StatusOr<Task> ParseTask(const std::string& name);

// Tokens [first, first + count) of a document are to be predicted.
struct Answer {
  uint32_t cue = 0;  // the query or quotation begins here
  uint32_t first = 0;
  uint32_t count = 0;
  std::string word;  // needle: the key asked for
};

struct TaskDocument {
  Task task = Task::kBooks;
  std::vector<uint32_t> tokens;  // context() + 1
  std::vector<Answer> answers;   // in order of position

  uint32_t context() const { return static_cast<uint32_t>(tokens.size()) - 1; }
  uint32_t scored_positions() const {
    return context() < kScoredPositions ? context() : kScoredPositions;
  }
  // The first scored position; all before it is the prefilled context.
  uint32_t first_scored() const { return context() - scored_positions(); }
};

// A sum over `count` things; scores of documents add up.
struct TaskScore {
  double sum = 0;
  double count = 0;

  double mean() const { return count == 0 ? 0 : sum / count; }
  void Add(const TaskScore& other) {
    sum += other.sum;
    count += other.count;
  }
};

// `logits`: one row for each scored position, teacher-forced. needle: sum is
// the queries answered right; recall: the bytes predicted right; books: the
// bits of all scored bytes.
TaskScore Score(const TaskDocument& document, const Logits& logits);

class TaskMaker {
 public:
  struct NeedleOptions {
    uint32_t context = 8192;
    uint32_t keys = 16;
    uint32_t queries = 8;  // at most what fits in 640 bytes
  };

  static StatusOr<TaskMaker> Create(std::string text);
  static StatusOr<TaskMaker> FromFile(const std::string& path);

  StatusOr<TaskDocument> Needle(const NeedleOptions& options, uint64_t seed, uint64_t index) const;
  StatusOr<TaskDocument> Recall(uint32_t context, uint64_t seed, uint64_t index) const;
  StatusOr<TaskDocument> Books(uint32_t context, uint64_t seed, uint64_t index) const;
  // Any task by name; `keys` is for needle only.
  StatusOr<TaskDocument> Make(Task task, uint32_t context, uint32_t keys, uint64_t seed,
                              uint64_t index) const;
  // About 7 KB of book with 16 needles, 8 of them asked for.
  StatusOr<TaskDocument> Demo(uint64_t seed) const;

  // The words that may be keys: 4 to 9 lower-case letters, frequent but not
  // the most frequent.
  const std::vector<std::string>& words() const { return words_; }

 private:
  TaskMaker(std::string text, std::vector<std::string> words)
      : text_(std::move(text)), words_(std::move(words)) {}

  std::string text_;
  std::vector<std::string> words_;
};

}  // namespace passband
