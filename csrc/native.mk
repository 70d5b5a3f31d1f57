# The C core without Python: unit tests and fuzz targets, found by their names.
#
#   make check-native      csrc/tests/test_*.c and the replayed corpora, under gcc's address and undefined sanitizers;
#                          those with threads under its thread sanitizer, too
#   make fuzz              csrc/fuzz/fuzz_*.c under clang's libFuzzer, FUZZ_SECONDS each; FUZZ="quote event_log" picks some
#
# The core is an archive here, so that a test may include a .c file to reach what is static in it: the linker then
# takes no second copy. Everything is built with lanes (and Intel crypto_mb, when that is there) and without.

NATIVE := build/native
FUZZ_SECONDS ?= 60
FUZZ ?= $(patsubst csrc/fuzz/fuzz_%.c,%,$(wildcard csrc/fuzz/fuzz_*.c))

CORE_C := $(notdir $(wildcard csrc/*.c))
TEST_NAMES := $(patsubst csrc/tests/%.c,%,$(wildcard csrc/tests/test_*.c))
FUZZ_NAMES := $(patsubst csrc/fuzz/fuzz_%.c,%,$(wildcard csrc/fuzz/fuzz_*.c))

# Asked for only inside recipes, after the environment and libsodium are there, and only once.
SODIUM_PREFIX = $(eval SODIUM_PREFIX := $(shell $(BIN)/python csrc/libsodium.py build))$(SODIUM_PREFIX)
LANES_ARCHIVE = $(if $(TCCP_NO_LANES),,$(wildcard $(VENV)/lib/libcrypto_mb.a))
LANES_CFLAGS = $(if $(LANES_ARCHIVE),-DTCCP_HAVE_CRYPTO_MB=1 -I$(VENV)/include/aggregator) \
    $(if $(TCCP_NO_LANES),-DTCCP_NO_LANES=1)

NATIVE_CFLAGS = -std=c11 -g -Wall -Wextra -Wshadow -Wvla -Wno-unused-parameter -Werror -fno-omit-frame-pointer \
    -MMD -MP -Icsrc -I$(SODIUM_PREFIX)/include
NATIVE_LIBS = $(SODIUM_PREFIX)/lib/libsodium.a -lcrypto -lpthread
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

# ---- three builds of the core: gcc with lanes, gcc without, clang for libFuzzer -----------------------------------

LANES_OBJECTS := $(CORE_C:%.c=$(NATIVE)/lanes/%.o)
PLAIN_OBJECTS := $(CORE_C:%.c=$(NATIVE)/plain/%.o)
CLANG_OBJECTS := $(CORE_C:%.c=$(NATIVE)/clang/%.o)

$(LANES_OBJECTS): $(NATIVE)/lanes/%.o: csrc/%.c csrc/native.mk $(VENV)/.installed
	@mkdir -p $(@D)
	gcc -O1 $(SANITIZE) $(NATIVE_CFLAGS) $(LANES_CFLAGS) -c $< -o $@

$(PLAIN_OBJECTS): $(NATIVE)/plain/%.o: csrc/%.c csrc/native.mk $(VENV)/.installed
	@mkdir -p $(@D)
	gcc -O1 $(SANITIZE) $(NATIVE_CFLAGS) -DTCCP_NO_LANES=1 -c $< -o $@

$(CLANG_OBJECTS): $(NATIVE)/clang/%.o: csrc/%.c csrc/native.mk $(VENV)/.installed
	@mkdir -p $(@D)
	clang -O1 $(FUZZ_SANITIZE) $(NATIVE_CFLAGS) $(LANES_CFLAGS) -c $< -o $@

$(NATIVE)/lanes/libcore.a: $(LANES_OBJECTS)
$(NATIVE)/plain/libcore.a: $(PLAIN_OBJECTS)
$(NATIVE)/clang/libcore.a: $(CLANG_OBJECTS)
$(NATIVE)/%/libcore.a:
	@rm -f $@
	ar rcs $@ $^

# ---- tests and the replayed corpora ------------------------------------------------------------------------------

LANES_TESTS := $(TEST_NAMES:%=$(NATIVE)/lanes/%)
PLAIN_TESTS := $(TEST_NAMES:%=$(NATIVE)/plain/%)
REPLAYERS := $(FUZZ_NAMES:%=$(NATIVE)/lanes/replay_%)

$(LANES_TESTS): $(NATIVE)/lanes/%: csrc/tests/%.c $(NATIVE)/lanes/libcore.a
	gcc -O1 $(SANITIZE) $(NATIVE_CFLAGS) $(LANES_CFLAGS) $< $(NATIVE)/lanes/libcore.a $(LANES_ARCHIVE) $(NATIVE_LIBS) -o $@

$(PLAIN_TESTS): $(NATIVE)/plain/%: csrc/tests/%.c $(NATIVE)/plain/libcore.a
	gcc -O1 $(SANITIZE) $(NATIVE_CFLAGS) -DTCCP_NO_LANES=1 $< $(NATIVE)/plain/libcore.a $(NATIVE_LIBS) -o $@

$(NATIVE)/lanes/replay.o: csrc/fuzz/replay.c csrc/native.mk $(VENV)/.installed
	@mkdir -p $(@D)
	gcc -O1 $(SANITIZE) $(NATIVE_CFLAGS) -c $< -o $@

$(REPLAYERS): $(NATIVE)/lanes/replay_%: csrc/fuzz/fuzz_%.c $(NATIVE)/lanes/replay.o $(NATIVE)/lanes/libcore.a
	gcc -O1 $(SANITIZE) $(NATIVE_CFLAGS) $(LANES_CFLAGS) $< $(NATIVE)/lanes/replay.o $(NATIVE)/lanes/libcore.a \
	    $(LANES_ARCHIVE) $(NATIVE_LIBS) -o $@

.PHONY: check-native
check-native: setup $(LANES_TESTS) $(PLAIN_TESTS) $(REPLAYERS)
	@set -e; for program in $(LANES_TESTS) $(PLAIN_TESTS); do echo "$$program"; $$program; done
	@set -e; for subject in $(FUZZ_NAMES); do \
	    $(NATIVE)/lanes/replay_$$subject csrc/fuzz/corpus/$$subject; done

# ---- threads under the thread sanitizer --------------------------------------------------------------------------

# Its shadow memory wants addresses where they always were: setarch -R.
THREAD_TESTS := $(NATIVE)/thread/test_disk_threads $(NATIVE)/thread/test_nbd_server

$(THREAD_TESTS): $(NATIVE)/thread/%: csrc/tests/%.c $(addprefix csrc/,$(CORE_C)) csrc/native.mk $(VENV)/.installed
	@mkdir -p $(@D)
	gcc -O1 -fsanitize=thread $(NATIVE_CFLAGS) $< $(addprefix csrc/,$(CORE_C)) $(NATIVE_LIBS) -o $@

.PHONY: check-threads
check-threads: setup $(THREAD_TESTS)
	@set -e; for program in $(THREAD_TESTS); do echo "$$program"; setarch -R $$program; done

check-native: check-threads

# ---- libFuzzer ---------------------------------------------------------------------------------------------------

FUZZERS := $(FUZZ_NAMES:%=$(NATIVE)/clang/fuzz_%)

$(FUZZERS): $(NATIVE)/clang/fuzz_%: csrc/fuzz/fuzz_%.c $(NATIVE)/clang/libcore.a
	clang -O1 -fsanitize=fuzzer $(FUZZ_SANITIZE) $(NATIVE_CFLAGS) $(LANES_CFLAGS) $< $(NATIVE)/clang/libcore.a \
	    $(LANES_ARCHIVE) $(NATIVE_LIBS) -o $@

.PHONY: fuzz fuzz-packages
fuzz-packages:
	@tools/system_packages.sh tools/apt-packages-fuzz.txt

# What a run finds stays in build/fuzz: the corpus grows from run to run, a crash leaves its input there.
fuzz: setup fuzz-packages
	@$(MAKE) --no-print-directory $(FUZZ:%=$(NATIVE)/clang/fuzz_%)
	@set -e; for subject in $(FUZZ); do \
	    mkdir -p build/fuzz/$$subject/corpus; echo "fuzz_$$subject: $(FUZZ_SECONDS) s"; \
	    $(NATIVE)/clang/fuzz_$$subject -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=2048 -max_len=65536 \
	        -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/$$subject/ \
	        build/fuzz/$$subject/corpus csrc/fuzz/corpus/$$subject; done

# ---- benchmarks in C: optimised like the product, with lanes and without ---------------------------------------------

BENCH_NAMES := $(patsubst csrc/bench/%.c,%,$(wildcard csrc/bench/bench_*.c))
BENCH_CFLAGS = -O2 -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -U_FORTIFY_SOURCE \
    -D_FORTIFY_SOURCE=2 -fno-strict-aliasing

$(BENCH_NAMES:%=$(NATIVE)/bench/%): $(NATIVE)/bench/%: csrc/bench/%.c $(addprefix csrc/,$(CORE_C)) csrc/native.mk | $(VENV)/.installed
	@mkdir -p $(@D)
	gcc $(BENCH_CFLAGS) $(NATIVE_CFLAGS) $(LANES_CFLAGS) $< $(addprefix csrc/,$(CORE_C)) $(LANES_ARCHIVE) $(NATIVE_LIBS) -o $@

$(BENCH_NAMES:%=$(NATIVE)/bench/plain_%): $(NATIVE)/bench/plain_%: csrc/bench/%.c $(addprefix csrc/,$(CORE_C)) csrc/native.mk | $(VENV)/.installed
	@mkdir -p $(@D)
	gcc $(BENCH_CFLAGS) $(NATIVE_CFLAGS) -DTCCP_NO_LANES=1 $< $(addprefix csrc/,$(CORE_C)) $(NATIVE_LIBS) -o $@

-include $(wildcard $(NATIVE)/*/*.d)
