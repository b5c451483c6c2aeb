#!/usr/bin/env bash
# Builds, checks, sanitizes and times the CUDA kernels on this machine, in one call.
# Prints one table, then everything measured as one JSON line.
#
#   bench/gpu/run.sh [--quick] [--no-sanitize] [--no-torch]
#
# Needs nvcc 13 and a GPU; Abseil and Highway from the system, or under $PASSBAND_DEPS
# (include/ and lib/). Compute-sanitizer and PyTorch are used where they are.
set -euo pipefail
cd "$(dirname "$0")/../.."

quick=
sanitize=1
torch=1
for flag in "$@"; do
  case $flag in
    --quick) quick=--quick ;;
    --no-sanitize) sanitize= ;;
    --no-torch) torch= ;;
    *) echo "unknown flag $flag" >&2; exit 2 ;;
  esac
done

out=${PASSBAND_OUT:-build/gpu}
mkdir -p "$out"
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
deps=${PASSBAND_DEPS:-}
include=(-I.)
libs=()
if [ -n "$deps" ]; then
  include+=("-I$deps/include")
  libs+=("-L$deps/lib" "-Wl,-rpath,$(realpath "$deps/lib")")
fi
cuda_home=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")

# As CMakeLists.txt has them for the CPU kernels.
cpu=(-march=x86-64-v2 -ffp-contract=off -fno-tree-reassoc -fno-tree-ter
  "-DHWY_DISABLED_TARGETS=(HWY_SSE4|HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)")
jobs=()
run() { "$@" & jobs+=($!); }
objects=()
cu() {
  local object=$out/${1//\//_}.o
  objects+=("$object")
  run nvcc -std=c++20 -O3 --expt-relaxed-constexpr -lineinfo \
    "-gencode=arch=compute_$arch,code=sm_$arch" "${include[@]}" -c "$1" -o "$object"
}
cc() {
  local object=$out/${1//\//_}.o
  objects+=("$object")
  run g++ -std=c++20 -O2 "${cpu[@]}" "${include[@]}" \
    -isystem "$cuda_home/include" -c "$1" -o "$object"
}
for source in kernels/cuda/*.cu bench/gpu/*.cu; do cu "$source"; done
for source in kernels/cuda/*.cc kernels/cpu/*.cc bench/gpu/step_bench.cc tests/kernels/cuda/check.cc; do
  cc "$source"
done
for job in "${jobs[@]}"; do wait "$job"; done

if [ -n "$deps" ]; then
  absl=(-Wl,--start-group "$deps"/lib/libabsl_*.a -Wl,--end-group)
else
  read -r -a absl <<<"$(pkg-config --libs --static absl_status absl_statusor)"
fi
link() {
  local program=$1 without=$2 list=()
  for object in "${objects[@]}"; do [[ $object == *"$without"* ]] || list+=("$object"); done
  g++ "${list[@]}" "${libs[@]}" "${absl[@]}" -lhwy -L"$cuda_home/lib64" -lcudart_static -ldl \
    -lrt -lpthread -o "$program"
}
link "$out/check" step_bench
link "$out/step_bench" check.cc

"$out/check"
if [ -n "$sanitize" ] && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$out/check" --small
  done
fi
"$out/step_bench" $quick >"$out/step.json"
if [ -n "$torch" ] && python3 -c 'import torch; torch.zeros(1).cuda()' 2>/dev/null; then
  python3 bench/gpu/torch_baseline.py >"$out/torch.json"
else
  : >"$out/torch.json"
fi
cat "$out/step.json" "$out/torch.json" | python3 bench/gpu/table.py
