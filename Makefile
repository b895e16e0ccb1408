# SPDX-License-Identifier: Apache-2.0
# One Makefile, no recursion but for the first run on a new machine. Every .c in a folder listed below is part of what that folder builds; a test is a file.
#   make CC=clang            another compiler, in its own build folder
#   make V=1                 say every command
#   make SANITIZE=address,undefined check    the whole suite under sanitizers, in its own build folder
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
BUILD := build$(if $(CLANG),/clang)$(if $(SANITIZE),/sanitize-$(subst $(comma),-,$(SANITIZE)))

# ---- What a machine needs. Debian 12 package names; `make deps` installs the missing ones. ----
DEPS_BUILD := gcc make pkg-config libc6-dev liburing-dev libsystemd-dev libxxhash-dev libinih-dev libjansson-dev
DEPS_CHECK := libcmocka-dev clang libclang-rt-14-dev mandoc systemd python3
DEPS_LINT := clang-format
DEPS_BENCH := fio
DEPS := $(DEPS_BUILD) $(DEPS_CHECK)

# ---- Warnings: each catches something the others do not. ----
WARN := -Wall -Wextra -Werror
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
endif

OPT ?= -O2 -g
CPPFLAGS := -I. -Iinclude -D_GNU_SOURCE -DHBM_VERSION='"$(VERSION)"' -DHBM_LIBDIR='"$(LIBDIR)"' $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
CFLAGS := -std=gnu11 $(OPT) $(WARN) -fno-common -fvisibility=hidden -fPIC -pthread -fno-strict-aliasing \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer,-fstack-protector-strong)
LDFLAGS := -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE),-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now)
PKG = $(shell pkg-config --libs $(1))

# ---- Sources ----
KERNELS_SRC := $(wildcard kernels/*.c)
SOFT_SRC := $(wildcard kernels/soft/*.c)
DAEMON_SRC := $(wildcard daemon/*.c)
CLIENT_SRC := $(wildcard client/*.c client/plan/*.c) $(addprefix daemon/,fdpass.c loading.c)
CTL_SRC := $(wildcard client/ctl/*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
INTEGRATION_SRC := $(wildcard tests/integration/test_*.c)
FAULT_SRC := $(wildcard tests/fault/test_*.c)
BENCH_SRC := $(wildcard tests/bench/bench_*.c)
GPU_SRC := $(wildcard tests/gpu/gpu_*.c)
GPU_SUPPORT_SRC := $(filter-out $(GPU_SRC),$(wildcard tests/gpu/*.c))
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(BUILD)/hbmd $(BUILD)/hbmctl
LIBRARIES := $(BUILD)/libhbm.so.$(VERSION) $(BUILD)/libhbm.a $(BUILD)/libhbmsoft.so
TESTS := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC) $(INTEGRATION_SRC) $(FAULT_SRC))
BENCHES := $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))
PACK := $(BUILD)/gpu-pack
PACK_PROGRAMS := $(PACK)/hbmd $(PACK)/hbmctl $(patsubst tests/gpu/%.c,$(PACK)/%,$(GPU_SRC)) \
	$(patsubst %.c,$(PACK)/%,$(INTEGRATION_SRC) $(FAULT_SRC) $(BENCH_SRC))

all: $(PROGRAMS) $(LIBRARIES) ## build the daemon, the library and the ctl tool
tests: all $(TESTS) ## build the tests, run none

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(DEVICE_PTX) $(CFLAGS) -MMD -MP -c $< -o $@

# Device code: PTX, which a driver compiles for the device it finds. clang makes it without a CUDA toolkit, whatever
# compiles the rest; the oldest target it is written for is the one that runs on all of them.
PTX_CC := clang
PTX_FLAGS := -x cuda --cuda-path=/nonexistent --cuda-device-only --cuda-gpu-arch=sm_70 -nocudainc -nocudalib -O3 \
	-Wall -Wextra -Werror

$(BUILD)/obj/%.ptx: %.cu
	@mkdir -p $(@D)
	$(call say,PTX)
	$(Q)$(PTX_CC) $(PTX_FLAGS) -S $< -o $@

# A module that has device code takes it in: see tests/support/device_code.h.
DEVICE_CODE := $(patsubst %.cu,$(BUILD)/obj/%,$(wildcard tests/*/*.cu))
$(DEVICE_CODE:=.o): private DEVICE_PTX = -DDEVICE_PTX='"$(@:.o=.ptx)"'
$(DEVICE_CODE:=.o): %.o: %.ptx

$(BUILD)/libhbmd.a: $(filter-out $(BUILD)/obj/daemon/main.o,$(call obj,$(DAEMON_SRC))) $(call obj,$(KERNELS_SRC))
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^

$(BUILD)/hbmd $(PACK)/hbmd: $(BUILD)/obj/daemon/main.o $(BUILD)/libhbmd.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(call PKG,liburing libsystemd libxxhash inih) -ldl

$(BUILD)/libhbm.a: $(call obj,$(CLIENT_SRC)) $(call obj,$(KERNELS_SRC))
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^

$(BUILD)/libhbm.so.$(VERSION): $(call obj,$(CLIENT_SRC)) $(call obj,$(KERNELS_SRC)) client/libhbm.map
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libhbm.so.$(SOVERSION) -Wl,--version-script=client/libhbm.map \
		$(filter %.o,$^) -o $@ -ldl
	$(Q)ln -sf $(@F) $(BUILD)/libhbm.so.$(SOVERSION)
	$(Q)ln -sf $(@F) $(BUILD)/libhbm.so

$(BUILD)/libhbmsoft.so: $(call obj,$(SOFT_SRC))
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libhbmsoft.so $^ -o $@

$(BUILD)/hbmctl $(PACK)/hbmctl: $(call obj,$(CTL_SRC)) $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(call PKG,jansson libxxhash) -ldl -lm

# Unit tests link the daemon's modules and, for the few that need it, the library; the others only what users link.
$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(SUPPORT_SRC)) $(BUILD)/libhbmd.a $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(call PKG,cmocka liburing libsystemd libxxhash inih jansson) -ldl -lm

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,$(SUPPORT_SRC)) $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(call PKG,cmocka libxxhash liburing jansson) -ldl -lm

# The pack for a machine with a device: the same objects, linked to find their libraries beside them. A DT_RPATH, unlike
# a DT_RUNPATH, also holds for the libraries that libraries need.
pack_rpath = -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/$(1)'
$(PACK)/hbmd $(PACK)/hbmctl: private LDFLAGS += $(call pack_rpath,lib)

$(PACK)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,$(SUPPORT_SRC)) $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $(call pack_rpath,../../lib) $^ -o $@ $(call PKG,cmocka libxxhash liburing jansson) -ldl -lm

$(PACK)/gpu_%: $(BUILD)/obj/tests/gpu/gpu_%.o $(call obj,$(GPU_SUPPORT_SRC) $(addprefix tests/support/,busy.c device_code.c)) $(BUILD)/libhbm.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $(call pack_rpath,lib) $^ -o $@ $(call PKG,liburing jansson) -ldl

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- Installing what a machine lacks. Stamped per set, so that nothing is asked twice. ----
deps: ## install the Debian packages that building and checking need
	@tests/deps $(DEPS)

$(BUILD)/.deps: Makefile
	@mkdir -p $(@D)
	@tests/deps $(DEPS)
	@touch $@

# The first command on a new machine: install, then start over with a make that sees what was installed.
check: $(BUILD)/.deps ## build and run every test; the last line is "N passed, N failed"
	@$(MAKE) --no-print-directory -j$(shell nproc) tests
	@BUILD=$(BUILD) CC="$(CC)" tests/run $(TESTS) -- $(sort $(wildcard tests/lint/*.sh))

demo: $(BUILD)/.deps ## start hbmd on a soft device and show the whole job, in under three minutes
	@$(MAKE) --no-print-directory -j$(shell nproc) all
	@BUILD=$(BUILD) tests/demo

bench: $(BUILD)/.deps ## measure, as ratios against fio, memcpy and a raw socket; writes nothing
	@tests/deps $(DEPS_BENCH)
	@$(MAKE) --no-print-directory -j$(shell nproc) all $(BENCHES)
	@BUILD=$(BUILD) tests/bench/run

lint: $(BUILD)/.deps ## check layers, words, format, man pages, units, exported symbols
	@tests/deps $(DEPS_LINT)
	@$(MAKE) --no-print-directory -j$(shell nproc) all
	@BUILD=$(BUILD) CC="$(CC)" tests/run -- $(sort $(wildcard tests/lint/*.sh))

gpu-pack: $(BUILD)/.deps ## make a folder that proves hbmd on a machine with a GPU and none of our packages
	@$(MAKE) --no-print-directory -j$(shell nproc) all $(PACK_PROGRAMS)
	@cp -P $(BUILD)/libhbm.so* $(BUILD)/libhbmsoft.so tests/gpu/run.sh $(PACK)
	@cp -R tests/data $(PACK)/tests
	@$(BUILD)/hbmctl replay --generate users=32,turns=6,prompt=6000,reply=600,shared=2048,seed=7 > $(PACK)/trace.jsonl
	@tests/gpu/pack.sh $(PACK) 60

gpu-check: gpu-pack ## prove hbmd on this machine's GPU; without one, say what was looked for and exit with 77
	@$(PACK)/run.sh

fuzz: ## not there yet: fuzzing
	@echo "make $@: not there yet: see \"What is not there yet\" in README.md" >&2; exit 1

install: all ## install into DESTDIR with PREFIX; an hbmd.conf that is there stays
	install -D -m 755 $(BUILD)/hbmd $(DESTDIR)$(SBINDIR)/hbmd
	install -D -m 755 $(BUILD)/hbmctl $(DESTDIR)$(BINDIR)/hbmctl
	install -D -m 755 $(BUILD)/libhbm.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libhbm.so.$(VERSION)
	ln -sf libhbm.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libhbm.so.$(SOVERSION)
	ln -sf libhbm.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libhbm.so
	install -D -m 644 $(BUILD)/libhbm.a $(DESTDIR)$(LIBDIR)/libhbm.a
	install -D -m 755 $(BUILD)/libhbmsoft.so $(DESTDIR)$(LIBDIR)/hbm/libhbmsoft.so
	install -D -m 644 -t $(DESTDIR)$(INCLUDEDIR)/hbm include/hbm/hbm.h include/hbm/wire.h
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

clean: ## remove everything that was built
	rm -rf build

help: ## print this
	@awk -F ':.*## ' '/^[a-z].*:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: all tests deps check demo bench lint fuzz gpu-check gpu-pack install clean help
