# SPDX-License-Identifier: Apache-2.0
# One Makefile, no recursion but for the first run on a new machine. Every .c in a folder listed below is part of what that folder builds; a test is a file.
#   make CC=clang            another compiler, in its own build folder
#   make V=1                 say every command
#   make SANITIZE=address,undefined check    the suite under sanitizers, in its own build folder; MODELS=1: with those that compute models
#   make CFLAGS=-O3          a user's CPPFLAGS, CFLAGS and LDFLAGS come after ours, from the command line or the environment
#   make WERROR=1            a warning is an error, as in CI
.DEFAULT_GOAL := all
SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY: # objects stay: the pack links the same ones

VERSION := 0.1.0
SOVERSION := 0
PREFIX ?= /usr
DESTDIR ?=
MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null)
BINDIR := $(PREFIX)/bin
SBINDIR := $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib/$(MULTIARCH)
INCLUDEDIR := $(PREFIX)/include
MANDIR := $(PREFIX)/share/man
UNITDIR ?= /usr/lib/systemd/system

ifeq ($(origin CC),default)
CC := gcc
endif
AR := ar
CLANG := $(findstring clang,$(CC))
SANITIZE ?=
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)	$(patsubst $(BUILD)/%,%,$@)")
comma := ,
empty :=
space := $(empty) $(empty)
COVERAGE ?=
WERROR ?=
BUILD := build$(if $(CLANG),/clang)$(if $(SANITIZE),/sanitize-$(subst $(comma),-,$(SANITIZE)))$(if $(COVERAGE),/coverage)

# ---- What a machine needs, by Debian package; each target installs what it uses and no more. ----
DEPS_BUILD := gcc clang make pkg-config libc6-dev liburing-dev libsystemd-dev libxxhash-dev libzstd-dev libsqlite3-dev libinih-dev libjansson-dev
DEPS_CHECK := $(DEPS_BUILD) libcmocka-dev g++ mandoc systemd python3
DEPS_LINT := $(DEPS_CHECK) clang-format
DEPS_DEMO := $(DEPS_BUILD) libcmocka-dev
DEPS_BENCH := $(DEPS_BUILD) libcmocka-dev fio
DEPS_PACK := $(DEPS_BUILD) libcmocka-dev
DEPS_ANALYZE := $(DEPS_BUILD) clang-tidy
DEPS_FUZZ = $(DEPS_BUILD) libcmocka-dev libclang-rt-$(shell clang -dumpversion | cut -d . -f 1)-dev
DEPS_COVERAGE := $(DEPS_CHECK) gcovr
DEPS_PYTHON := $(DEPS_BUILD) python3-dev python3-setuptools python3-wheel # optional: without them the tests of the package are skipped

# ---- Warnings: each catches something the others do not. ----
WARN := -Wall -Wextra
WARN += -Wundef		      # a misspelt macro in #if is 0
WARN += -Wshadow	      # two variables of one name: one of them is meant
WARN += -Wconversion	      # a size that narrows; -Wall and -Wextra say nothing
WARN += -Wstrict-prototypes -Wmissing-prototypes # a call the compiler cannot check; a function that should be static
WARN += -Wpointer-arith	      # arithmetic on void *
WARN += -Wwrite-strings	      # a literal passed as char *
WARN += -Wvla		      # a stack frame sized by a stranger
WARN += -Wformat=2	      # a format that is not a literal
WARN += -Wredundant-decls     # a prototype in two places
WARN += -Wno-sign-conversion  # off: fds, counts and results of system calls mix signs everywhere, and checked.h guards sizes
ifeq ($(CLANG),)
WARN += -Wcast-align=strict   # a cast to a stricter alignment
WARN += -Wlogical-op	      # `a && a`
WARN += -Wduplicated-cond     # an else-if that cannot be reached
else
WARN += -Wcast-align
WARN += -Wno-gnu-zero-variadic-macro-arguments # off: cmocka's macros
WARN += -Wno-gnu-variable-sized-type-not-at-end # off: tests put the array of a message behind its head
endif

# ---- Flags. HBM_* are ours and always there; CPPFLAGS, CFLAGS and LDFLAGS are the user's, and being last they win. ----
CPPFLAGS ?=
CFLAGS ?=
LDFLAGS ?=
OPT ?= $(if $(COVERAGE),-O1 -g,-O2 -g)
ERROR := $(if $(filter-out 0,$(WERROR)),-Werror)
# Not beside a user's own, which would define it twice, nor without optimization, of which glibc warns.
FORTIFY := $(if $(SANITIZE)$(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS))$(filter -O0,$(OPT) $(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HBM_CPPFLAGS := -I. -Iinclude -D_GNU_SOURCE -DHBM_VERSION='"$(VERSION)"' -DHBM_MULTIARCH='"$(MULTIARCH)"' $(FORTIFY)
HBM_CFLAGS := -std=gnu11 $(OPT) $(WARN) -fno-common -fvisibility=hidden -fPIC -pthread -fno-strict-aliasing $(if $(COVERAGE),--coverage) \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer,-fstack-protector-strong)
HBM_LDFLAGS := -pthread $(if $(COVERAGE),--coverage) $(if $(SANITIZE),-fsanitize=$(SANITIZE),-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now)
COMPILE = $(strip $(CC) $(HBM_CPPFLAGS) $(CPPFLAGS) $(HBM_CFLAGS) $(CFLAGS))
LINK = $(CC) $(HBM_LDFLAGS) $(CFLAGS) $(LDFLAGS)
PKG = $(shell pkg-config --libs $(1))

# ---- Sources ----
KERNELS_SRC := $(wildcard kernels/driver/*.c kernels/device/*.c)
SOFT_SRC := $(wildcard kernels/soft/*.c)
DAEMON_SRC := $(wildcard daemon/*/*.c)
CLIENT_SRC := $(wildcard client/*.c client/plan/*.c client/sequence/*.c) $(addprefix daemon/base/,address_space.c bulk_copy.c fdpass.c loading.c)
CTL_SRC := $(wildcard client/ctl/*.c)
MODEL_TEST_SRC := $(wildcard tests/model/test_*.c)
DEMO_SRC := tests/model/generate.c
SUPPORT_SRC := $(wildcard tests/support/*.c) $(filter-out $(MODEL_TEST_SRC) $(DEMO_SRC),$(wildcard tests/model/*.c))
UNIT_SRC := $(sort $(shell find tests/unit -name 'test_*.c'))
INTEGRATION_SRC := $(wildcard tests/integration/test_*.c)
FAULT_SRC := $(wildcard tests/fault/test_*.c)
HOSTILE_SRC := $(wildcard tests/hostile/test_*.c)
BENCH_SRC := $(wildcard tests/bench/bench_*.c)
GPU_SRC := $(wildcard tests/gpu/gpu_*.c)
GPU_SUPPORT_SRC := $(filter-out $(GPU_SRC),$(wildcard tests/gpu/*.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_SUPPORT_SRC := $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c))
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(BUILD)/hbmd $(BUILD)/hbmctl
LIBRARIES := $(BUILD)/libhbm.so.$(VERSION) $(BUILD)/libhbm.a $(BUILD)/libhbmsoft.so
# Those that compute models do arithmetic of their own most of the time, and take the product through nothing that others do
# not: without sanitizers only, unless MODELS=1.
COMPUTING_SRC := $(MODEL_TEST_SRC) $(filter tests/integration/test_model% tests/integration/test_systems%,$(INTEGRATION_SRC))
TESTS := $(patsubst %.c,$(BUILD)/%,$(filter-out $(if $(SANITIZE),$(if $(MODELS),,$(COMPUTING_SRC))),$(UNIT_SRC) $(MODEL_TEST_SRC) \
	$(INTEGRATION_SRC) $(FAULT_SRC) $(HOSTILE_SRC)))
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c))
DEMO := $(patsubst %.c,$(BUILD)/%,$(DEMO_SRC))
BENCHES := $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))
PACK := $(BUILD)/gpu-pack
# The pack has neither stubs nor calls that fail.
UNPACKED_SRC := $(shell grep -lE '"tests/support/(disk|power|fault|fault_loop)\.h"' $(INTEGRATION_SRC) $(FAULT_SRC))
PACK_PROGRAMS := $(PACK)/hbmd $(PACK)/hbmctl $(patsubst tests/gpu/%.c,$(PACK)/%,$(GPU_SRC)) \
	$(patsubst %.c,$(PACK)/%,$(filter-out $(UNPACKED_SRC),$(INTEGRATION_SRC) $(FAULT_SRC)) $(BENCH_SRC))

all: $(PROGRAMS) $(LIBRARIES) ## build the daemon, the library and the ctl tool
tests: all $(TESTS) $(DEMO) $(EXAMPLES) $(call obj,$(FUZZ_SRC)) $(BUILD)/tests/fault/hbmd $(BUILD)/tests/stub/libcuda.so.1 $(BUILD)/tests/stub/power.so $(BUILD)/tests/stub/disk.so ## build the tests, run none

# Objects are compiled anew when the flags are others than last time.
ifneq ($(file <$(BUILD)/flags),$(COMPILE))
$(BUILD)/flags: FORCE
endif
$(BUILD)/flags:
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(COMPILE))' >$@

# An archive is made anew when a source was added or removed since.
SOURCES := $(KERNELS_SRC) $(SOFT_SRC) $(DAEMON_SRC) $(CLIENT_SRC) $(CTL_SRC) $(SUPPORT_SRC)
ifneq ($(file <$(BUILD)/sources),$(SOURCES))
$(BUILD)/sources: FORCE
endif
$(BUILD)/sources:
	@mkdir -p $(@D)
	@printf '%s\n' '$(SOURCES)' >$@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILE) $(ERROR) $(call device_ptx,$<) -MMD -MP -c $< -o $@

# The model of the tests computes the same bits on every processor: no products contracted into sums.
$(BUILD)/obj/tests/model/%.o: private HBM_CFLAGS += -ffp-contract=off

# Device code: PTX, which a driver compiles for the device it finds. clang makes it without a CUDA toolkit, whatever
# compiles the rest; the oldest target it is written for is the one that runs on all of them.
PTX_CC := clang
PTX_FLAGS := -x cuda --cuda-path=/nonexistent --cuda-device-only --cuda-gpu-arch=sm_70 -nocudainc -nocudalib -O3 \
	-Xclang -target-feature -Xclang +ptx60 -ffreestanding -ffp-contract=off -I. -Wall -Wextra $(ERROR)

$(BUILD)/obj/%.ptx: %.cu
	@mkdir -p $(@D)
	$(call say,PTX)
	$(Q)$(PTX_CC) $(PTX_FLAGS) -MD -MP -MT $@ -MF $@.d -S $< -o $@

# The same sources once more, as C: what the soft driver runs for the entries of those names.
$(BUILD)/obj/%.soft.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILE) $(ERROR) -ffp-contract=off -include kernels/soft/grid.h -x c -MMD -MP -c $< -o $@

# A module that has device code takes it in: see tests/support/device_code.h.
DEVICE_SRC := $(patsubst %.cu,%.c,$(wildcard kernels/device/*.cu tests/*/*.cu))
device_ptx = $(if $(filter $(1),$(DEVICE_SRC)),-DDEVICE_PTX='"$(BUILD)/obj/$(1:.c=.ptx)"')
$(call obj,$(DEVICE_SRC)): %.o: %.ptx

$(BUILD)/libhbmd.a: $(filter-out $(BUILD)/obj/daemon/service/main.o,$(call obj,$(DAEMON_SRC))) $(call obj,$(KERNELS_SRC)) $(BUILD)/sources
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(BUILD)/hbmd $(PACK)/hbmd: $(BUILD)/obj/daemon/service/main.o $(BUILD)/libhbmd.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,liburing libsystemd libxxhash libzstd sqlite3 inih) -ldl

$(BUILD)/libhbm.a: $(call obj,$(CLIENT_SRC)) $(call obj,$(KERNELS_SRC)) $(BUILD)/sources
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(BUILD)/libhbm.so.$(VERSION): $(call obj,$(CLIENT_SRC)) $(call obj,$(KERNELS_SRC)) client/libhbm.map $(BUILD)/sources
	$(call say,LD)
	$(Q)$(LINK) -shared -Wl,-soname,libhbm.so.$(SOVERSION) -Wl,--version-script=client/libhbm.map \
		$(filter %.o,$^) -o $@ -ldl
	$(Q)ln -sf $(@F) $(BUILD)/libhbm.so.$(SOVERSION)
	$(Q)ln -sf $(@F) $(BUILD)/libhbm.so

$(BUILD)/libhbmsoft.so: $(call obj,$(SOFT_SRC)) $(patsubst %.cu,$(BUILD)/obj/%.soft.o,$(wildcard kernels/device/*.cu)) $(BUILD)/sources
	$(call say,LD)
	$(Q)$(LINK) -shared -Wl,-soname,libhbmsoft.so $(filter %.o,$^) -o $@

# A driver that does not start, for tests.
$(BUILD)/tests/stub/libcuda.so.1: $(BUILD)/obj/tests/stub/libcuda.o
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) -shared -Wl,-soname,libcuda.so.1 $^ -o $@

# What a daemon writes to its disk, for tests that cut the power.
$(BUILD)/tests/stub/power.so: $(BUILD)/obj/tests/stub/power.o
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) -shared $^ -o $@ -ldl

# A disk that fails what a daemon writes or flushes, for tests.
$(BUILD)/tests/stub/disk.so: $(BUILD)/obj/tests/stub/disk.o
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) -shared $^ -o $@ -ldl

# All of hbmctl but its main(), for its tests.
$(BUILD)/libhbmctl.a: $(filter-out $(BUILD)/obj/client/ctl/main.o,$(call obj,$(CTL_SRC))) $(BUILD)/sources
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(BUILD)/hbmctl $(PACK)/hbmctl: $(BUILD)/obj/client/ctl/main.o $(BUILD)/libhbmctl.a $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,jansson libxxhash) -ldl -lm

# What tests share. Each takes what it uses, so that a test can play a function of the libraries after it.
$(BUILD)/libhbmtest.a: $(call obj,$(SUPPORT_SRC)) $(BUILD)/sources
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

# Unit tests link the modules of the daemon, of hbmctl and of the library; the others only what users link.
$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libhbmtest.a $(BUILD)/libhbmctl.a $(BUILD)/libhbmd.a $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,cmocka liburing libsystemd libxxhash libzstd sqlite3 inih jansson) -ldl -lm

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/libhbmtest.a $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,cmocka libxxhash liburing jansson sqlite3) -ldl -lm

# As a user links them: the shared library alone.
$(BUILD)/examples/%: $(BUILD)/obj/examples/%.o $(BUILD)/libhbm.so.$(VERSION)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) -Wl,-rpath,'$$ORIGIN/..' $< -o $@ -L$(BUILD) -lhbm

# A client for the systemd that tests/systemd/run boots: it needs no library of the tests.
$(BUILD)/tests/systemd/client: $(BUILD)/obj/tests/systemd/client.o $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,libxxhash) -ldl -lm

# Harnesses: libFuzzer's main() takes their inputs to pieces of the daemon, the library, hbmctl and the soft driver, which
# are built with SANITIZE=$(FUZZ_SANITIZE). What libhbmsoft.so is instrumented with it finds in the program.
FUZZ_SANITIZE := address,undefined,fuzzer-no-link
FUZZERS := $(patsubst %.c,$(BUILD)/%,$(FUZZ_SRC))
FUZZ_LIBS := $(BUILD)/obj/kernels/soft/ptx.o $(BUILD)/libhbmtest.a $(BUILD)/libhbmctl.a $(BUILD)/libhbmd.a $(BUILD)/libhbm.a
fuzzers: $(FUZZERS) $(BUILD)/tests/fuzz/seeds $(BUILD)/libhbmsoft.so

$(FUZZERS): private HBM_LDFLAGS += -fsanitize=fuzzer -rdynamic
$(FUZZERS): $(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(call obj,$(filter-out %/seeds.c,$(FUZZ_SUPPORT_SRC))) $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,cmocka liburing libsystemd libxxhash libzstd sqlite3 inih jansson) -ldl -lm

$(BUILD)/tests/fuzz/seeds: $(BUILD)/obj/tests/fuzz/seeds.o $(call obj,tests/fuzz/fuzz.c tests/fuzz/messages.c) $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,cmocka liburing libsystemd libxxhash libzstd sqlite3 inih jansson) -ldl -lm

# The calls that tests/support/fault_calls.c makes fail, in a daemon and in tests that want it of the library.
FAULT_CALLS := malloc calloc realloc reallocarray aligned_alloc strdup strndup asprintf __asprintf_chk mmap sendmsg recvmsg \
	accept4 eventfd memfd_create socket epoll_create1 signalfd fopen getsockopt fcntl open epoll_ctl poll epoll_wait \
	io_uring_submit io_uring_submit_and_get_events io_uring_submit_and_wait_timeout pthread_create \
	pread pwrite fallocate ftruncate fdatasync flock mkdir bind listen chmod
FAULT_WRAP := $(addprefix -Wl$(comma)--wrap=,$(FAULT_CALLS))

$(BUILD)/tests/fault/hbmd: private HBM_LDFLAGS += $(FAULT_WRAP)
$(BUILD)/tests/fault/hbmd: $(BUILD)/obj/daemon/service/main.o $(BUILD)/libhbmd.a $(BUILD)/obj/tests/support/fault_calls.o
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $^ -o $@ $(call PKG,liburing libsystemd libxxhash libzstd sqlite3 inih) -ldl

$(BUILD)/tests/fault/test_library_calls $(BUILD)/tests/fault/test_sequence_memory \
	$(BUILD)/tests/fault/test_large_calls: private HBM_LDFLAGS += $(FAULT_WRAP)

# The pack for a machine with a device: the same objects, linked to find their libraries beside them. A DT_RPATH, unlike
# a DT_RUNPATH, also holds for the libraries that libraries need.
pack_rpath = -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/$(1)'
$(PACK)/hbmd $(PACK)/hbmctl: private HBM_LDFLAGS += $(call pack_rpath,lib)

$(PACK)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/libhbmtest.a $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(call pack_rpath,../../lib) $^ -o $@ $(call PKG,cmocka libxxhash liburing jansson sqlite3) -ldl -lm

$(PACK)/gpu_%: $(BUILD)/obj/tests/gpu/gpu_%.o $(call obj,$(GPU_SUPPORT_SRC) $(addprefix tests/support/,busy.c device_code.c)) $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(call pack_rpath,lib) $^ -o $@ $(call PKG,libxxhash liburing jansson) -ldl

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- Installing what a machine lacks. Stamped per set, so that nothing is asked twice. ----
deps: ## install the Debian packages that building and checking need
	@tests/deps $(DEPS_CHECK)

$(BUILD)/.deps-FUZZ: $(BUILD)/.deps-BUILD # the version of clang is known when there is one
$(BUILD)/.deps-%: Makefile
	@mkdir -p $(@D)
	@tests/deps $(DEPS_$*)
	@touch $@

# The first command on a new machine: install, then start over with a make that sees what was installed.
SUBMAKE = $(MAKE) --no-print-directory -j$(shell nproc)
RUN_TESTS = BUILD=$(BUILD) CC="$(CC)" tests/run
LINTS := $(sort $(wildcard tests/lint/*.sh))

# Sanitizers have nothing to say of lint scripts.
check: $(BUILD)/.deps-CHECK ## build and run every test; the last line is "N passed, N failed"
	@$(SUBMAKE) tests
	@$(RUN_TESTS) $(TESTS) $(if $(SANITIZE),,-- tests/python.sh $(LINTS))

# The programs that start threads in the process under test, or in a daemon.
THREADED_TESTS := test_attempt test_foreign_fd test_log_queue test_worker test_completions test_hash_pool test_copy_queue \
	test_copy_direct test_device_late test_copy_queue_turns test_copy_issue test_loop test_loop_posts test_loop_timers test_loop_io test_nvme_io \
	test_nvme_io_turns test_mover test_mover_faults test_lost_device test_load test_move test_encoded test_clean_copies \
	test_idle_checksums test_transfer test_session session/test_connection test_backlog test_session_fences \
	test_session_process test_slab test_slab_faults test_device test_device_code test_ddr test_nvme_file test_nvme_device \
	client/test_region client/test_commit client/test_commit_faults client/test_commit_answers test_request \
	region/test_share region/test_share_ends client/test_share session/test_boards integration/test_lend integration/test_lend_killed \
	test_copier soft/test_copy soft/test_stream soft/test_kernel soft/test_ptx soft/test_module soft/test_errors \
	soft/test_process integration/test_tiers integration/test_region integration/test_host_region integration/test_guest_region test_landing \
	test_lingering integration/test_log test_sequence_growth test_sequence_credit test_sequence_fork test_sequence_random \
	test_sequence_watermark
THREADED := $(foreach test,$(THREADED_TESTS),$(filter %/$(test),$(TESTS)))

check-threads: $(BUILD)/.deps-CHECK ## run the tests of what has threads; made for SANITIZE=thread
	@$(SUBMAKE) all $(THREADED)
	@$(RUN_TESTS) $(THREADED)

check-systemd: $(BUILD)/.deps-CHECK ## boot a systemd in namespaces and run the units there; skipped where that cannot be done
	@$(SUBMAKE) all $(BUILD)/tests/systemd/client
	@BUILD=$(BUILD) tests/systemd/run

demo: $(BUILD)/.deps-DEMO ## start hbmd on a soft device and show the whole job, in under three minutes
	@$(SUBMAKE) all $(DEMO)
	@BUILD=$(BUILD) tests/demo

bench: $(BUILD)/.deps-BENCH ## measure, as ratios against fio, memcpy and a raw socket, and beside attacks; writes nothing
	@$(SUBMAKE) all $(BENCHES)
	@BUILD=$(BUILD) tests/bench/run

soak: $(BUILD)/.deps-DEMO ## replay a trace from eight clients for TIME seconds, and kill one of them or the daemon each second
	@$(SUBMAKE) all
	@BUILD=$(BUILD) TIME=$(or $(TIME),60) tests/soak/run

lint: $(BUILD)/.deps-LINT ## check layers, words, format, man pages, units, exported symbols
	@$(SUBMAKE) all
	@$(RUN_TESTS) -- $(LINTS)

analyze: $(BUILD)/.deps-ANALYZE ## look for bugs with clang-tidy and the checks of .clang-tidy; clean is a condition
	@$(SUBMAKE) -s compile_commands.json
	@printf '%s\n' $(PRODUCT_SRC) | xargs -P $(shell nproc) -n 4 clang-tidy --quiet --warnings-as-errors='*' \
		--extra-arg=-Wno-unknown-warning-option -p . 2>&1 | { ! grep -vE '^[0-9]+ warnings? generated' ; }

warnings: $(BUILD)/.deps-CHECK ## say what a compiler warns of in any source, and build nothing: make warnings CC=clang
	@printf '%s\n' $(ALL_SRC) | xargs -P $(shell nproc) -n 8 $(COMPILE) $(ERROR) -DDEVICE_PTX='""' -fsyntax-only

python: $(BUILD)/.deps-PYTHON ## build the wheel of the Python package, hbm, into build/python
	@$(SUBMAKE) $(BUILD)/libhbm.a
	@BUILD=$(BUILD) client/python/build

deb: python ## make the Debian package of the Python package, python3-hbm, from that
	@BUILD=$(BUILD) client/python/deb

check-engines: $(BUILD)/.deps-PYTHON ## test the adapters beside vLLM, LMCache, SGLang and transformers from PyPI, without a GPU; ENGINES=PATH: where they are kept
	@$(SUBMAKE) all
	@BUILD=$(BUILD) tests/engines/run

coverage: $(BUILD)/.deps-COVERAGE ## run the test programs and say how many lines and branches of the product they reach
	@$(SUBMAKE) COVERAGE=1 tests
	@find $(BUILD)/coverage -name '*.gcda' -delete
	@$(MAKE) --no-print-directory COVERAGE=1 coverage-run

# A process that may not write its counts, as another user or beyond a limit, would say so among what tests compare.
coverage-run:
	@status=0; GCOV_ERROR_FILE=/dev/null $(RUN_TESTS) $(TESTS) || status=$$?; \
		gcovr --root . --object-directory $(BUILD) $(addprefix --filter ,daemon/ client/ kernels/) \
			--html-details $(BUILD)/index.html --json-summary $(BUILD)/summary.json --print-summary && exit $$status

gpu-pack: $(BUILD)/.deps-PACK ## make a folder that proves hbmd on a machine with a GPU and none of our packages
	@rm -f $(filter-out $(PACK_PROGRAMS),$(shell find $(PACK)/tests -type f -perm -100 2>/dev/null)) # of an earlier tree
	@$(SUBMAKE) all $(PACK_PROGRAMS)
	@cp -P $(BUILD)/libhbm.so* $(BUILD)/libhbmsoft.so tests/gpu/run.sh tests/gpu/QUESTIONS.md $(PACK)
	@cp -R tests/data $(PACK)/tests
	@$(BUILD)/hbmctl replay --generate users=32,turns=6,prompt=6000,reply=600,shared=2048,seed=7 > $(PACK)/trace.jsonl
	@tests/gpu/pack.sh $(PACK) 60

mutants: $(BUILD)/.deps-CHECK ## seed faults into MODULES, or what changed since BASE, and name those no test notices
	@$(SUBMAKE) tests
	@BUILD=$(BUILD) CC="$(CC)" tests/mutants/run $(MODULES)

gpu-check: gpu-pack ## prove hbmd on this machine's GPU; without one, say what was looked for and exit with 77
	@$(PACK)/run.sh

fuzz: $(BUILD)/.deps-FUZZ ## look for inputs that break the daemon, the library or hbmctl, TIME seconds in all; FUZZ="config ptx": only these
	@$(SUBMAKE) CC=clang SANITIZE=$(FUZZ_SANITIZE) fuzzers
	@BUILD=build/clang/sanitize-$(subst $(comma),-,$(FUZZ_SANITIZE)) tests/fuzz/run $(or $(TIME),60) $(FUZZ)

install: all ## install into DESTDIR with PREFIX; an hbmd.conf that is there stays
	install -D -m 755 $(BUILD)/hbmd $(DESTDIR)$(SBINDIR)/hbmd
	install -D -m 755 $(BUILD)/hbmctl $(DESTDIR)$(BINDIR)/hbmctl
	install -D -m 755 $(BUILD)/libhbm.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libhbm.so.$(VERSION)
	ln -sf libhbm.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libhbm.so.$(SOVERSION)
	ln -sf libhbm.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libhbm.so
	install -D -m 644 $(BUILD)/libhbm.a $(DESTDIR)$(LIBDIR)/libhbm.a
	install -D -m 755 $(BUILD)/libhbmsoft.so $(DESTDIR)$(LIBDIR)/hbm/libhbmsoft.so
	install -D -m 644 -t $(DESTDIR)$(INCLUDEDIR)/hbm include/hbm/*.h
	mkdir -p $(DESTDIR)$(LIBDIR)/pkgconfig
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' client/libhbm.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/libhbm.pc
	for page in man/*.[1-8]; do \
		install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; done
	install -D -m 644 -t $(DESTDIR)$(UNITDIR) systemd/hbmd.service systemd/hbmd.socket
	sed -i 's|^ExecStart=/usr/sbin/|ExecStart=$(SBINDIR)/|' $(DESTDIR)$(UNITDIR)/hbmd.service
	install -D -m 644 systemd/hbmd.sysusers $(DESTDIR)/usr/lib/sysusers.d/hbmd.conf
	install -D -m 644 systemd/hbmd.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/hbmd.conf
	[ -e $(DESTDIR)/etc/hbmd/hbmd.conf ] || install -D -m 644 systemd/hbmd.conf $(DESTDIR)/etc/hbmd/hbmd.conf
	@[ -n "$(DESTDIR)" ] || PATH=$$PATH:/usr/sbin:/sbin ldconfig -p | grep -qF ' $(LIBDIR)/libhbm.so.$(SOVERSION)' || \
		echo "programs do not find $(LIBDIR)/libhbm.so.$(SOVERSION) yet: run ldconfig as root (a folder of your own is first named in /etc/ld.so.conf.d/)"

uninstall: ## remove what install put, given the same PREFIX and DESTDIR; an hbmd.conf that was edited stays
	rm -f $(DESTDIR)$(SBINDIR)/hbmd $(DESTDIR)$(BINDIR)/hbmctl
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libhbm.so libhbm.so.$(SOVERSION) libhbm.so.$(VERSION) libhbm.a hbm/libhbmsoft.so pkgconfig/libhbm.pc)
	rm -f $(addprefix $(DESTDIR)$(INCLUDEDIR)/hbm/,$(notdir $(wildcard include/hbm/*.h)))
	rm -f $(foreach page,$(wildcard man/*.[1-8]),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,hbmd.service hbmd.socket)
	rm -f $(DESTDIR)/usr/lib/sysusers.d/hbmd.conf $(DESTDIR)/usr/lib/tmpfiles.d/hbmd.conf
	! cmp -s systemd/hbmd.conf $(DESTDIR)/etc/hbmd/hbmd.conf || rm $(DESTDIR)/etc/hbmd/hbmd.conf
	@for folder in $(DESTDIR)$(LIBDIR)/hbm $(DESTDIR)$(INCLUDEDIR)/hbm $(DESTDIR)/etc/hbmd; do \
		[ ! -d $$folder ] || rmdir --ignore-fail-on-non-empty $$folder; done
	@[ ! -e $(DESTDIR)/etc/hbmd/hbmd.conf ] || echo "left as it was edited: $(DESTDIR)/etc/hbmd/hbmd.conf"

# The same commit makes the same bytes.
dist: ## make build/hbmd-VERSION.tar.gz of the last commit
	@mkdir -p build
	@git diff --quiet HEAD || echo "what is not committed is not in it"
	@git archive --format=tar --prefix=hbmd-$(VERSION)/ HEAD | gzip -9n > build/hbmd-$(VERSION).tar.gz
	@echo build/hbmd-$(VERSION).tar.gz

# What clangd and clang-tidy read: the command for each source, from the variables that compile it.
PRODUCT_SRC := $(KERNELS_SRC) $(SOFT_SRC) $(DAEMON_SRC) $(CLIENT_SRC) $(CTL_SRC)
ALL_SRC := $(PRODUCT_SRC) $(SUPPORT_SRC) $(UNIT_SRC) $(MODEL_TEST_SRC) $(INTEGRATION_SRC) $(FAULT_SRC) $(HOSTILE_SRC) $(BENCH_SRC) $(FUZZ_SRC) $(FUZZ_SUPPORT_SRC) $(wildcard tests/gpu/*.c tests/systemd/*.c)
json = "$(subst ",\",$(subst \,\\,$(1)))"
command_of = {"directory": $(call json,$(CURDIR)), "file": $(call json,$(1)), "command": $(call json,$(strip $(COMPILE) $(call device_ptx,$(1)) -c $(1)))}
compile_commands.json: FORCE ## write the command that compiles each source, for clangd and clang-tidy
	@: $(file >$@,[)$(foreach source,$(ALL_SRC),$(file >>$@,$(if $(filter $(source),$(firstword $(ALL_SRC))),,$(comma))$(call command_of,$(source))))$(file >>$@,])

clean: ## remove everything that was built
	rm -rf build compile_commands.json

help: ## print this
	@awk -F ':.*## ' '/^[a-z].*:.*## /{printf "  make %-21s %s\n", $$1, $$2}' Makefile

.PHONY: all tests deps check check-engines python deb soak check-threads check-systemd demo bench lint analyze warnings coverage coverage-run fuzz fuzzers mutants gpu-check gpu-pack install uninstall dist clean help FORCE
