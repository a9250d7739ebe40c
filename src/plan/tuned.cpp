// See tuned.hpp.
#include "plan/tuned.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "jit/cache.hpp"

namespace upconv {
namespace {

/// A line is "GPU TAB pass TAB problem TAB epilogue TAB alternative TAB detail".
std::string key_of(const CudaTarget& target, const Problem& problem, Pass pass, const Epilogue& epilogue) {
  return target.name + "\t" + std::string(to_string(pass)) + "\t" + to_string(problem) + "\t" + to_string(epilogue);
}

/// Where the n-th tab of a line is.
std::size_t tab(const std::string& line, int n) {
  std::size_t at = line.find('\t');
  for (; n > 1 && at != std::string::npos; --n) at = line.find('\t', at + 1);
  return at;
}

}  // namespace

const std::map<std::string, TunedChoice>& TunedChoices::entries() const {
  if (read_) return entries_;
  read_ = true;
  std::ifstream in(file_);
  for (std::string line; std::getline(in, line);) {
    if (in.eof()) break;  // no newline: its writer was cut short
    const std::size_t fourth = tab(line, 4), fifth = tab(line, 5);
    if (fifth == std::string::npos || line.find('\t', fifth + 1) != std::string::npos) continue;
    entries_[line.substr(0, fourth)] = {line.substr(fourth + 1, fifth - fourth - 1), line.substr(fifth + 1)};
  }
  return entries_;
}

std::optional<TunedChoice> TunedChoices::find(const CudaTarget& target, const Problem& problem, Pass pass,
                                              const Epilogue& epilogue) const {
  if (file_.empty()) return {};
  const std::lock_guard lock(mutex_);
  const auto& known = entries();
  if (known.empty()) return {};  // what nearly every process sees: no text is made for it
  const auto it = known.find(key_of(target, problem, pass, epilogue));
  if (it == known.end()) return {};
  return it->second;
}

Status TunedChoices::remember(const CudaTarget& target, const Problem& problem, Pass pass, const Epilogue& epilogue,
                              const TunedChoice& choice) {
  if (file_.empty()) return {Code::unavailable, "tuned choices have no file: UPCONV_CACHE_DIR is set to nothing"};
  const std::lock_guard lock(mutex_);
  const std::string key = key_of(target, problem, pass, epilogue);
  entries();
  const auto failed = [&](const char* what) {
    return Status{Code::unavailable, std::string(what) + " " + file_ + ": " + std::strerror(errno)};
  };
  const std::string folder = file_.substr(0, file_.rfind('/'));
  for (std::size_t at = folder.find('/', 1);; at = folder.find('/', at + 1)) {
    if (mkdir(folder.substr(0, at).c_str(), 0700) != 0 && errno != EEXIST) return failed("cannot make the folder of");
    if (at == std::string::npos) break;
  }
  const int out = open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (out < 0) return failed("cannot open");
  const std::string line = key + "\t" + choice.alternative + "\t" + choice.detail + "\n";
  const bool whole = write(out, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const Status wrote = whole ? Status{} : failed("cannot write to");
  close(out);
  if (wrote.ok()) entries_[key] = choice;
  return wrote;
}

std::size_t TunedChoices::forget() {
  const std::lock_guard lock(mutex_);
  const std::size_t count = entries().size();
  entries_.clear();
  if (!file_.empty()) unlink(file_.c_str());
  return count;
}

TunedChoices& user_tuned_choices() {
  static auto* choices =
      new TunedChoices(jit::cache_folder().empty() ? std::string() : jit::cache_folder() + "/tuned.tsv");
  return *choices;
}

}  // namespace upconv
