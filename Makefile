# Passband's front door. `make demo` and `make test` need nothing set up before.
#
#   make demo            build, then watch a model answer from the service
#   make demo KEEP=1     the same, and leave the server up
#   make test            build everything and run every test, fuzzing included
#   make build           build the release programs into build/release/bin
#   make bench           run the benchmarks and print their tables
#   make bench-peers     compare with Redis and memcached on this machine
#   make chaos           kill, stop and cut off everything for 45 s (SECONDS=N), bytes verified
#   make chaos PLAIN=1   the same without TLS
#   make test-asan       the tests under AddressSanitizer and UBSan
#   make test-tsan       the tests of the folders without gRPC under TSan
#   make test-python     the Python package: builds it in an environment of its own, tests it
#   make fuzz            the libFuzzer targets, a fixed number of inputs each
#   make format          format the C++ sources (make check-format: only look)
#   make clean           remove build/
JOBS ?= $(shell nproc)
PRESET ?= release

.PHONY: demo test build bench bench-peers chaos test-asan test-tsan test-python fuzz format check-format clean setup

setup:
	@scripts/install-packages

build: setup
	@scripts/build $(PRESET) programs -j$(JOBS)

demo: build
	@scripts/demo $(if $(KEEP),--keep)

test: setup fuzz
	@scripts/build release all -j$(JOBS)
	@ctest --preset release -j$(JOBS)

bench: setup
	@scripts/build release all -j$(JOBS)
	@scripts/bench

bench-peers: setup
	@scripts/install-packages deploy/debian-packages-bench.txt
	@scripts/build release peers_bench -j$(JOBS)
	@build/release/bench/peers_bench

chaos: setup
	@scripts/build release chaos_driver -j$(JOBS)
	@build/release/tests/chaos_driver --seconds $(or $(SECONDS),45) $(if $(SEED),--seed $(SEED)) \
	  $(if $(PLAIN),--plain)

test-asan: setup
	@scripts/build asan all -j$(JOBS)
	@ctest --preset asan -j$(JOBS)

test-tsan: setup
	@scripts/build tsan all -j$(JOBS)
	@ctest --preset tsan -j$(JOBS)

test-python: build
	@scripts/install-packages deploy/debian-packages-python.txt
	@scripts/build release python_sdk -j$(JOBS)
	@scripts/test-python

fuzz: setup
	@scripts/build fuzz fuzz_programs -j$(JOBS)
	@ctest --preset fuzz -j$(JOBS)

check-format:
	@scripts/install-packages deploy/debian-packages-developer.txt
	@git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format-14 --dry-run --Werror

format:
	@scripts/install-packages deploy/debian-packages-developer.txt
	@git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format-14 -i

clean:
	rm -rf build
