#include "llama/tasks.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/units.h"
#include "llama/split_mix.h"
#include "llama/task_words.h"
#include "llama/tokenizer.h"

namespace passband {
namespace {

constexpr uint32_t kDigits = 6;
constexpr uint32_t kQuotations = 3;
constexpr uint32_t kQuotedBytes = 160;
constexpr uint32_t kCueBytes = 40;
constexpr uint32_t kRecallEnd = 140;  // bytes of a quotation that are scored: up to here
constexpr char kRecallOpening[] = "\nRecall: \"";
constexpr char kRecallClosing[] = "\"\n";
constexpr uint32_t kDemoContext = 7000;

struct KeyValue {
  std::string word;
  std::string digits;

  std::string Statement() const { return "\nThe code for " + word + " is " + digits + ".\n"; }
  // Up to the digits.
  std::string Cue() const {
    return "\nWhat is the code for " + word + "? The code for " + word + " is ";
  }
};

// Draws that differ for every (task, seed, index).
SplitMix RandomFor(Task task, uint64_t seed, uint64_t index) {
  SplitMix mix(seed);
  mix = SplitMix(mix.Next() + index);
  return SplitMix(mix.Next() + static_cast<uint64_t>(task));
}

// `count` different numbers below `bound`, in random order.
std::vector<size_t> Distinct(SplitMix& random, size_t bound, size_t count) {
  std::vector<size_t> all(bound);
  for (size_t i = 0; i < bound; ++i) all[i] = i;
  for (size_t i = 0; i < count; ++i) std::swap(all[i], all[i + random.Below(bound - i)]);
  all.resize(count);
  return all;
}

std::vector<KeyValue> MakeNeedles(SplitMix& random, const std::vector<std::string>& words,
                                  size_t count) {
  std::vector<KeyValue> out;
  for (const size_t i : Distinct(random, words.size(), count)) {
    out.push_back({words[i], fmt::format("{:06d}", random.Below(1'000'000))});
  }
  return out;
}

// `bytes` of `text` from a random place.
StatusOr<std::string> Excerpt(SplitMix& random, const std::string& text, int64_t bytes) {
  if (bytes < static_cast<int64_t>(kQuotedBytes)) {
    return Error(StatusCode::kInvalidArgument,
                 "the context is too short: {} bytes are left for the text", bytes);
  }
  if (static_cast<uint64_t>(bytes) > text.size()) {
    return Error(StatusCode::kInvalidArgument, "{} bytes of text are too few; {} are needed",
                 text.size(), bytes);
  }
  const auto length = static_cast<size_t>(bytes);
  return text.substr(random.Below(text.size() - length + 1), length);
}

// Puts each needle's statement at a random place of `body`.
std::string Scatter(SplitMix& random, const std::string& body,
                    const std::vector<KeyValue>& needles) {
  std::vector<size_t> places;
  for (size_t i = 0; i < needles.size(); ++i) places.push_back(random.Below(body.size()));
  std::sort(places.begin(), places.end());
  std::string out;
  size_t done = 0;
  for (size_t i = 0; i < needles.size(); ++i) {
    out += body.substr(done, places[i] - done) + needles[i].Statement();
    done = places[i];
  }
  return out + body.substr(done);
}

}  // namespace

const char* TaskName(Task task) {
  switch (task) {
    case Task::kNeedle:
      return "needle";
    case Task::kRecall:
      return "recall";
    case Task::kBooks:
      return "books";
  }
  return "unknown";
}

StatusOr<Task> ParseTask(const std::string& name) {
  for (const Task task : {Task::kNeedle, Task::kRecall, Task::kBooks}) {
    if (name == TaskName(task)) return task;
  }
  return Error(StatusCode::kInvalidArgument, "no task '{}'; there are needle, recall, books", name);
}

StatusOr<TaskMaker> TaskMaker::Create(std::string text) {
  std::vector<std::string> words = KeyWords(text);
  if (words.empty()) {
    return Error(StatusCode::kInvalidArgument, "the text has no words to make tasks of");
  }
  return TaskMaker(std::move(text), std::move(words));
}

StatusOr<TaskMaker> TaskMaker::FromFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error(StatusCode::kNotFound, "{}: cannot be read", path);
  std::ostringstream text;
  text << in.rdbuf();
  StatusOr<TaskMaker> out = Create(std::move(text).str());
  if (!out.ok()) return Annotate(out.status(), path);
  return out;
}

StatusOr<TaskDocument> TaskMaker::Needle(const NeedleOptions& options, uint64_t seed,
                                         uint64_t index) const {
  if (options.keys == 0 || options.keys > words_.size()) {
    return Error(StatusCode::kInvalidArgument, "{} keys; the text has words for 1 to {}",
                 options.keys, words_.size());
  }
  SplitMix random = RandomFor(Task::kNeedle, seed, index);
  const std::vector<KeyValue> needles = MakeNeedles(random, words_, options.keys);
  TaskDocument out;
  out.task = Task::kNeedle;
  std::string tail;
  int64_t stated = 0;
  for (const auto& needle : needles) stated += static_cast<int64_t>(needle.Statement().size());
  for (const size_t i : Distinct(random, needles.size(), needles.size())) {
    const std::string cue = needles[i].Cue();
    const size_t after = tail.size() + cue.size() + kDigits + 1;
    if (out.answers.size() == options.queries || after + 1 > kScoredPositions) break;
    out.answers.push_back({.cue = static_cast<uint32_t>(tail.size()),
                           .first = static_cast<uint32_t>(tail.size() + cue.size()),
                           .count = kDigits,
                           .word = needles[i].word});
    tail += cue + needles[i].digits + ".";
  }
  tail += "\n";
  const auto size = static_cast<int64_t>(options.context) + 1;
  PASSBAND_ASSIGN_OR_RETURN(
      const std::string body,
      Excerpt(random, text_, size - stated - static_cast<int64_t>(tail.size())));
  const std::string head = Scatter(random, body, needles);
  for (Answer& answer : out.answers) {
    answer.cue += static_cast<uint32_t>(head.size());
    answer.first += static_cast<uint32_t>(head.size());
  }
  out.tokens = EncodeBytes(head + tail);
  return out;
}

StatusOr<TaskDocument> TaskMaker::Recall(uint32_t context, uint64_t seed, uint64_t index) const {
  SplitMix random = RandomFor(Task::kRecall, seed, index);
  const std::string opening = kRecallOpening;
  const std::string closing = kRecallClosing;
  const size_t tail = kQuotations * (opening.size() + kQuotedBytes + closing.size());
  PASSBAND_ASSIGN_OR_RETURN(
      std::string text,
      Excerpt(random, text_, static_cast<int64_t>(context) + 1 - static_cast<int64_t>(tail)));
  const std::string body = text;
  TaskDocument out;
  out.task = Task::kRecall;
  for (uint32_t i = 0; i < kQuotations; ++i) {
    const size_t place = random.Below(body.size() - kQuotedBytes + 1);
    const auto cue = static_cast<uint32_t>(text.size() + opening.size());
    out.answers.push_back(
        {.cue = cue, .first = cue + kCueBytes, .count = kRecallEnd - kCueBytes, .word = {}});
    text.append(opening).append(body, place, kQuotedBytes).append(closing);
  }
  out.tokens = EncodeBytes(text);
  return out;
}

StatusOr<TaskDocument> TaskMaker::Books(uint32_t context, uint64_t seed, uint64_t index) const {
  SplitMix random = RandomFor(Task::kBooks, seed, index);
  PASSBAND_ASSIGN_OR_RETURN(const std::string text,
                            Excerpt(random, text_, static_cast<int64_t>(context) + 1));
  TaskDocument out;
  out.task = Task::kBooks;
  out.tokens = EncodeBytes(text);
  out.answers.push_back({.cue = out.first_scored(),
                         .first = out.first_scored() + 1,
                         .count = out.scored_positions(),
                         .word = {}});
  return out;
}

StatusOr<TaskDocument> TaskMaker::Make(Task task, uint32_t context, uint32_t keys, uint64_t seed,
                                       uint64_t index) const {
  switch (task) {
    case Task::kNeedle:
      return Needle({.context = context, .keys = keys}, seed, index);
    case Task::kRecall:
      return Recall(context, seed, index);
    case Task::kBooks:
      break;
  }
  return Books(context, seed, index);
}

StatusOr<TaskDocument> TaskMaker::Demo(uint64_t seed) const {
  return Needle({.context = kDemoContext, .keys = 16, .queries = 8}, seed, 0);
}

}  // namespace passband
