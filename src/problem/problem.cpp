// Validation, output size and the text form of a Problem. Wording follows what a PyTorch user knows:
// operator, value, rule.
#include "upconv/problem.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>

namespace upconv {
namespace {

std::string operator_name(const Problem& p) { return "conv_transpose" + std::to_string(p.rank) + "d"; }

std::string list(const Extent& e, int rank) {
  std::string s = "(";
  for (int d = 0; d < rank; ++d) s += (d ? ", " : "") + std::to_string(e[d]);
  return s + ")";
}

Status fail(const Problem& p, const std::string& rule) { return invalid_argument(operator_name(p) + ": " + rule); }

/// a * b, or -1 when it leaves int64. Expects a, b >= 0.
std::int64_t checked_product(std::int64_t a, std::int64_t b) {
  std::int64_t r = 0;
  return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r) ? -1 : r;
}

/// Output size of one dimension, computed without overflow; false when it leaves int64.
bool output_dim(const Problem& p, int d, std::int64_t& out) {
  std::int64_t a = 0, b = 0, c = 0;
  if (__builtin_sub_overflow(p.input[d], 1, &a) || __builtin_mul_overflow(a, p.stride[d], &a)) return false;
  if (__builtin_sub_overflow(p.kernel[d], 1, &b) || __builtin_mul_overflow(b, p.dilation[d], &b)) return false;
  if (__builtin_mul_overflow(p.padding[d], std::int64_t{2}, &c)) return false;
  return !__builtin_add_overflow(a, b, &a) && !__builtin_sub_overflow(a, c, &a) &&
         !__builtin_add_overflow(a, p.output_padding[d], &a) && !__builtin_add_overflow(a, 1, &out);
}

Status validate_dimension(const Problem& p, int d) {
  const auto text = [](std::int64_t v) { return std::to_string(v); };
  if (p.kernel[d] <= 0) return fail(p, "kernel size should be greater than zero, but got " + list(p.kernel, p.rank));
  if (p.stride[d] <= 0) return fail(p, "stride should be greater than zero, but got " + list(p.stride, p.rank));
  if (p.dilation[d] <= 0) return fail(p, "dilation should be greater than zero, but got " + list(p.dilation, p.rank));
  if (p.padding[d] < 0) return fail(p, "negative padding is not supported, but got " + list(p.padding, p.rank));
  if (p.output_padding[d] < 0)
    return fail(p, "negative output_padding is not supported, but got " + list(p.output_padding, p.rank));
  if (p.output_padding[d] >= p.stride[d] && p.output_padding[d] >= p.dilation[d])
    return fail(p, "output_padding (" + text(p.output_padding[d]) + ") must be smaller than either stride (" +
                       text(p.stride[d]) + ") or dilation (" + text(p.dilation[d]) + ") in dimension " + text(d));
  if (p.input[d] <= 0) return fail(p, "expected non-zero spatial sizes of the input, but got " + list(p.input, p.rank));
  std::int64_t out = 0;
  if (!output_dim(p, d, out)) return fail(p, "output size does not fit 64 bits");
  if (out <= 0) {
    Extent o{};
    for (int i = 0; i < p.rank; ++i)
      if (!output_dim(p, i, o[i])) o[i] = 0;
    return fail(p, "calculated output size " + list(o, p.rank) + " is too small: input " + list(p.input, p.rank) +
                       ", kernel " + list(p.kernel, p.rank) + ", padding " + list(p.padding, p.rank));
  }
  return {};
}

}  // namespace

Status validate(const Problem& p) {
  if (p.rank < 1 || p.rank > max_rank)
    return invalid_argument("conv_transpose: expected 1, 2 or 3 spatial dimensions, but got " + std::to_string(p.rank));
  if (p.batch < 0) return fail(p, "negative batch size " + std::to_string(p.batch));
  if (p.precision != Precision::ieee && p.dtype != DType::f32)
    return fail(p, "precision " + std::string(to_string(p.precision)) +
                       " is a way to compute f32 products, but dtype is " + std::string(to_string(p.dtype)));
  if (p.groups <= 0) return fail(p, "expected groups to be greater than 0, but got groups=" + std::to_string(p.groups));
  if (p.in_channels <= 0 || p.out_channels <= 0)
    return fail(p, "expected a positive number of channels, but got in_channels=" + std::to_string(p.in_channels) +
                       ", out_channels=" + std::to_string(p.out_channels));
  if (p.in_channels % p.groups != 0)
    return fail(p, "in_channels (" + std::to_string(p.in_channels) + ") must be divisible by groups (" +
                       std::to_string(p.groups) + ")");
  if (p.out_channels % p.groups != 0)
    return fail(p, "out_channels (" + std::to_string(p.out_channels) + ") must be divisible by groups (" +
                       std::to_string(p.groups) + ")");
  for (int d = 0; d < p.rank; ++d)
    if (Status s = validate_dimension(p, d); !s.ok()) return s;
  // Element strides are computed for an empty batch too, so they must fit as for a batch of one.
  const std::int64_t batch = std::max<std::int64_t>(p.batch, 1);
  std::int64_t x = checked_product(batch, p.in_channels), y = checked_product(batch, p.out_channels);
  std::int64_t w = checked_product(p.in_channels, p.out_channels / p.groups);
  const Extent out = output_size(p);
  for (int d = 0; d < p.rank; ++d) {
    x = checked_product(x, p.input[d]);
    y = checked_product(y, out[d]);
    w = checked_product(w, p.kernel[d]);
  }
  // Byte counts of up to 8 per element must fit too.
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() / 16;
  if (x < 0 || y < 0 || w < 0 || x > most || y > most || w > most)
    return fail(p, "a tensor of this problem does not fit 64-bit addressing");
  return {};
}

Extent output_size(const Problem& p) {
  Extent out{1, 1, 1};
  for (int d = 0; d < p.rank; ++d)
    if (!output_dim(p, d, out[d])) out[d] = 0;
  return out;
}

double flop(const Problem& p) {
  double n = 2.0 * double(p.batch) * double(p.in_channels) * double(p.out_channels / p.groups);
  for (int d = 0; d < p.rank; ++d) n *= double(p.kernel[d]) * double(p.input[d]);
  return n;
}

double min_bytes(const Problem& p, Pass pass) {
  double x = double(p.batch) * double(p.in_channels), y = double(p.batch) * double(p.out_channels);
  double w = double(p.in_channels) * double(p.out_channels / p.groups);
  const Extent out = output_size(p);
  for (int d = 0; d < p.rank; ++d) {
    x *= double(p.input[d]);
    y *= double(out[d]);
    w *= double(p.kernel[d]);
  }
  const double b = pass == Pass::backward_bias || (pass == Pass::forward && p.bias) ? double(p.out_channels) : 0.0;
  const double elements = pass == Pass::backward_bias ? y + b : x + y + w + b;
  return elements * double(size_of(p.dtype));
}

std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f64:
      return 8;
    case DType::f16:
    case DType::bf16:
      return 2;
  }
  return 0;
}

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
  }
  return "?";
}

std::string_view to_string(Precision precision) {
  switch (precision) {
    case Precision::ieee:
      return "ieee";
    case Precision::tf32:
      return "tf32";
    case Precision::bf16x3:
      return "bf16x3";
  }
  return "?";
}

std::string_view to_string(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return "forward";
    case Pass::backward_input:
      return "backward_input";
    case Pass::backward_weight:
      return "backward_weight";
    case Pass::backward_bias:
      return "backward_bias";
  }
  return "?";
}

std::string to_string(const Problem& p) {
  const auto extent = [&](const char* key, const Extent& e) {
    std::string s = std::string(" ") + key;
    for (int d = 0; d < p.rank; ++d) s += (d ? "x" : "") + std::to_string(e[d]);
    return s;
  };
  std::string s = std::to_string(p.rank) + "d n" + std::to_string(p.batch) + " c" + std::to_string(p.in_channels) +
                  " o" + std::to_string(p.out_channels) + extent("i", p.input) + extent("k", p.kernel) +
                  extent("s", p.stride) + extent("p", p.padding) + extent("op", p.output_padding) +
                  extent("d", p.dilation) + " g" + std::to_string(p.groups);
  if (p.bias) s += " b";
  s += " " + std::string(to_string(p.dtype));
  if (p.precision != Precision::ieee) s += " " + std::string(to_string(p.precision));
  if (p.x_layout == Layout::channels_last) s += " xl";
  if (p.w_layout == Layout::channels_last) s += " wl";
  if (p.y_layout == Layout::channels_last) s += " yl";
  return s;
}

namespace {

bool parse_int(std::string_view text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// "3x5x7", or one number for every dimension.
bool parse_extent(std::string_view text, int rank, Extent& extent) {
  int n = 0;
  while (n < max_rank) {
    const std::size_t x = text.find('x');
    if (!parse_int(text.substr(0, x), extent[n])) return false;
    ++n;
    if (x == std::string_view::npos) {
      if (n == 1)
        for (int d = 1; d < rank; ++d) extent[d] = extent[0];
      return n == 1 || n == rank;
    }
    text.remove_prefix(x + 1);
  }
  return false;
}

bool parse_word(std::string_view word, Problem& p) {
  if (word == "b") return p.bias = true;
  if (word == "xl") return p.x_layout = Layout::channels_last, true;
  if (word == "wl") return p.w_layout = Layout::channels_last, true;
  if (word == "yl") return p.y_layout = Layout::channels_last, true;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    if (word == to_string(t)) return p.dtype = t, true;
  for (Precision m : {Precision::ieee, Precision::tf32, Precision::bf16x3})
    if (word == to_string(m)) return p.precision = m, true;
  if (word.starts_with("op")) return parse_extent(word.substr(2), p.rank, p.output_padding);
  const std::string_view rest = word.substr(1);
  switch (word[0]) {
    case 'n':
      return parse_int(rest, p.batch);
    case 'c':
      return parse_int(rest, p.in_channels);
    case 'o':
      return parse_int(rest, p.out_channels);
    case 'g':
      return parse_int(rest, p.groups);
    case 'i':
      return parse_extent(rest, p.rank, p.input);
    case 'k':
      return parse_extent(rest, p.rank, p.kernel);
    case 's':
      return parse_extent(rest, p.rank, p.stride);
    case 'p':
      return parse_extent(rest, p.rank, p.padding);
    case 'd':
      return parse_extent(rest, p.rank, p.dilation);
    default:
      return false;
  }
}

}  // namespace

Result<Problem> parse_problem(std::string_view text) {
  Problem p;
  bool first = true;
  while (!text.empty()) {
    const std::size_t space = text.find_first_of(" \t");
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
    if (word.empty()) continue;
    if (first) {
      if (word != "1d" && word != "2d" && word != "3d")
        return invalid_argument("a problem starts with 1d, 2d or 3d, but got '" + std::string(word) + "'");
      p.rank = word[0] - '0';
      first = false;
    } else if (!parse_word(word, p)) {
      return invalid_argument("'" + std::string(word) + "' is no part of a problem such as '" + to_string(Problem{}) +
                              "'");
    }
  }
  if (first) return invalid_argument("an empty problem; write one such as '" + to_string(Problem{}) + "'");
  return p;
}

}  // namespace upconv
