# ringway: one Makefile. `make help` lists the targets; `make V=1` shows the commands.

MODE ?= release
BUILD ?= build
OUT := $(BUILD)/$(MODE)
CC ?= gcc
PREFIX ?= /usr
DESTDIR ?=
VERSION := 0.1.0
TREE_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
COMMIT := $(TREE_COMMIT)
# The commit's own time in what is packaged: the same tree gives the same bytes.
ifndef SOURCE_DATE_EPOCH
export SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
endif

comma := ,
MACHINE := $(shell $(CC) -dumpmachine)
WARN := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wstrict-prototypes -Wvla $(if $(CI),-Werror)
# Against stacks and calls that were tampered with; the last is Intel's CET or arm's branch protection. The linker marks a
# program for it only if all objects are, and the distribution's crt1.o and liburing.a are not: `-z shstk` says it all the
# same, because shadow stacks ask of code only that it returns where it was called from.
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE \
	$(if $(findstring x86_64,$(MACHINE)),-fcf-protection=full,$(if $(findstring aarch64,$(MACHINE)),-mbranch-protection=standard))
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=3
CFLAGS_debug := -O0 -g3
CFLAGS_asan := -O1 -g3 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g3 -fsanitize=thread -fno-omit-frame-pointer
LDFLAGS_release := -Wl,-z,relro,-z,now,-z,noexecstack$(if $(findstring x86_64,$(MACHINE)),$(comma)-z$(comma)shstk) -pie
LDFLAGS_debug := -pie
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
# clang only (CC=clang): coverage for libFuzzer in every object
CFLAGS_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS_fuzz := -fsanitize=address,undefined
# the same targets as scripts/memcheck runs them; an older DWARF, because valgrind of Debian 12 reads no other from clang
CFLAGS_memcheck := -O1 -g -gdwarf-4 -fno-omit-frame-pointer
ALL_CFLAGS := -std=gnu17 -D_GNU_SOURCE -pthread $(WARN) $(HARDEN) $(CFLAGS_$(MODE)) \
	-Isrc -I$(OUT)/gen $(CFLAGS) -MMD -MP
ALL_LDFLAGS := -pthread $(LDFLAGS_$(MODE)) $(LDFLAGS)

# Rooms, lowest floor first; each becomes $(OUT)/lib/<room>.a. What a room may include: scripts/check-layers.
ROOMS := base codec auth hub log config os uring net redis upstream edge gateway rest admin program client
NEEDS_base :=
NEEDS_codec := base
NEEDS_auth := base
NEEDS_hub := base
NEEDS_log := base
NEEDS_config := log base
NEEDS_os := log base
NEEDS_uring := log base
NEEDS_net := uring log base
NEEDS_redis := net uring codec log base
NEEDS_upstream := net uring codec config log base
NEEDS_edge := net uring codec config log base
NEEDS_gateway := edge upstream redis net uring os config log hub auth codec base
NEEDS_rest := edge upstream redis net uring os config log auth codec base
NEEDS_admin := edge net uring codec config log base
NEEDS_program := rest gateway edge upstream redis net uring os config log hub auth codec base
NEEDS_client := upstream redis net uring config log auth codec base

# Foreign libraries by their owner room.
LIBS_codec := -lnghttp2 -lhiredis -ljansson -lz -lprotobuf-c
LIBS_auth := -lsodium -lcrypto
LIBS_uring := -l:liburing.a
LIBS_net := -lcares -lssl -lcrypto
LIBS_config := -lyaml
LIBS_os := -lseccomp -lsystemd

Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)	$(2)")

# What other services speak is read at run time, from descriptor sets: no code is made of it.
FOREIGN_PROTOS := proto/auth/v1/auth_service.proto proto/ai_service/ai_service.proto
PROTOS := $(filter-out $(FOREIGN_PROTOS),$(shell find proto -name '*.proto' 2>/dev/null))
# the distribution's own descriptor.proto: what codec/schema reads
PROTO_INCLUDE ?= /usr/include
GEN_C := $(PROTOS:proto/%.proto=$(OUT)/gen/%.pb-c.c) $(OUT)/gen/google/protobuf/descriptor.pb-c.c
GEN_O := $(GEN_C:.c=.o)
TEST_PROTOS := $(shell find tests/conformance/proto -name '*.proto' 2>/dev/null)

srcs = $(wildcard src/$(1)/*.c)
objs = $(patsubst src/%.c,$(OUT)/obj/%.o,$(call srcs,$(1)))
libs = $(sort $(foreach r,$(1),$(LIBS_$(r))))
archives = $(foreach r,$(1),$(OUT)/lib/$(r).a)
grouped = -Wl,--start-group $(call archives,$(1)) $(if $(filter codec,$(1)),$(OUT)/lib/gen.a) -Wl,--end-group $(call libs,$(1))

SERVER_ROOMS := $(filter-out client,$(ROOMS))
CLIENT_ROOMS := client $(NEEDS_client)
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/%.c=$(OUT)/tests/%)
SIM_SRC := $(wildcard tests/sim/test_*.c)
SIM_BIN := $(SIM_SRC:tests/%.c=$(OUT)/tests/%)
SIM_HELP := $(patsubst tests/%.c,$(OUT)/tests/%.o,$(filter-out $(SIM_SRC),$(wildcard tests/sim/*.c)))
SIM_ROOMS ?= $(SERVER_ROOMS)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:tests/%.c=$(OUT)/tests/%)
FUZZ_SECONDS ?= 60
BENCH_SRC := $(wildcard bench/*.c)
BENCH_BIN := $(BENCH_SRC:bench/%.c=$(OUT)/%)
RINGBENCH_O := $(patsubst bench/%.c,$(OUT)/obj/bench/%.o,$(wildcard bench/ringbench/*.c))

TO := $(DESTDIR)$(PREFIX)
UNITS := $(notdir $(wildcard systemd/*.service systemd/*.socket))
COMPLETIONS := $(wildcard systemd/completion/*)
INSTALL_MAN := share/man/man1 share/man/man8
INSTALL_COMPLETION := share/bash-completion/completions
INSTALL_DOC := share/doc/ringway
MAN_PAGES := $(patsubst systemd/man/%.in,$(OUT)/man/%,$(wildcard systemd/man/*.in))
MAN_DATE = $(shell LC_ALL=C date -u -d @$(SOURCE_DATE_EPOCH) '+%B %-d, %Y')

.PHONY: all check unit unit-bins unit-room sim net faults fuzz fuzz-bins memcheck conformance soak bench bench-quick bench-pbjson reference lint analyze analyzed generated format man install uninstall deb help clean
.SECONDARY:
.DELETE_ON_ERROR:

TEST_HELPERS := $(OUT)/ringway-faults $(OUT)/testee

all: $(OUT)/ringway $(OUT)/ringway-client $(BENCH_BIN) $(OUT)/ringbench $(TEST_HELPERS) ## build the two programs and the helpers of bench/ and tests/

$(OUT)/ringway: $(OUT)/obj/main.o $(call archives,$(SERVER_ROOMS)) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(OUT)/obj/main.o $(call grouped,$(SERVER_ROOMS))

$(OUT)/ringway-client: $(call archives,$(CLIENT_ROOMS)) $(OUT)/lib/gen.a $(OUT)/obj/client/main.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(OUT)/obj/client/main.o $(call grouped,$(CLIENT_ROOMS))

# The gateway whose memory runs out when a test says so (tests/faults/allocator.c).
FAULT_WRAPS := sandbox_enter secrets_init slab_alloc pool_take h2_block_take h2_block_give h2_block_hooks h2_block_alloc ring_enter ring_probe

$(OUT)/ringway-faults: $(OUT)/tests/faults/allocator.o $(OUT)/obj/main.o $(call archives,$(SERVER_ROOMS)) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(FAULT_WRAPS:%=-Wl,--wrap=%) -o $@ $< $(OUT)/obj/main.o $(call grouped,$(SERVER_ROOMS))

$(BENCH_BIN): $(OUT)/%: $(OUT)/obj/bench/%.o $(call archives,$(NEEDS_client) edge hub) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(call grouped,$(NEEDS_client) edge hub)

$(OUT)/ringbench: $(RINGBENCH_O) $(call archives,$(CLIENT_ROOMS)) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(RINGBENCH_O) $(call grouped,$(CLIENT_ROOMS))

# one archive a room; a main.c in a room is linked by name
define room_rule
$(OUT)/lib/$(1).a: $(filter-out %/main.o,$(call objs,$(1)))
	$$(call say,AR,$$@)
	$$(Q)mkdir -p $$(@D) && rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

$(OUT)/lib/gen.a: $(GEN_O)
	$(call say,AR,$@)
	$(Q)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $^

$(OUT)/gen/%.pb-c.c $(OUT)/gen/%.pb-c.h: proto/%.proto
	$(call say,PROTO,$<)
	$(Q)mkdir -p $(OUT)/gen && protoc-c --proto_path=proto --c_out=$(OUT)/gen $<

$(OUT)/gen/google/protobuf/descriptor.pb-c.c $(OUT)/gen/google/protobuf/descriptor.pb-c.h: $(PROTO_INCLUDE)/google/protobuf/descriptor.proto
	$(call say,PROTO,$<)
	$(Q)mkdir -p $(OUT)/gen && protoc-c --proto_path=$(PROTO_INCLUDE) --c_out=$(OUT)/gen $<

# every proto in wire form: server reflection answers from it
$(OUT)/gen/descriptors.pb: $(PROTOS)
	$(call say,PROTO,$@)
	$(Q)mkdir -p $(OUT)/gen && protoc --proto_path=proto --include_imports --descriptor_set_out=$@ $^

$(GEN_O): %.o: %.c
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-conversion -Wno-strict-prototypes -c -o $@ $<

$(OUT)/obj/codec/descriptors.o: $(OUT)/gen/descriptors.pb

$(OUT)/obj/%.o: src/%.c | $(GEN_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -DRINGWAY_VERSION='"$(VERSION)"' -DRINGWAY_COMMIT='"$(COMMIT)"' -c -o $@ $<

# The few objects that print the commit are made anew when the tree's changes.
$(shell mkdir -p $(OUT); [ "$$(cat $(OUT)/commit 2>/dev/null)" = $(TREE_COMMIT) ] || echo $(TREE_COMMIT) >$(OUT)/commit)
$(OUT)/obj/main.o $(OUT)/obj/admin/process.o $(OUT)/obj/client/main.o: $(OUT)/commit

$(OUT)/obj/bench/%.o: bench/%.c | $(GEN_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -c -o $@ $<

# The reference that the gateway's commands are compared with: C++, and only where its packages are (group bench).
REFERENCE := $(OUT)/grpc_server
REFERENCE_PROTOS := $(addprefix proto/,galaxy/gateway/v1/edge_gateway.proto galaxy/gateway/v1/command_handler.proto \
	grpc/health/v1/health.proto)

$(REFERENCE): bench/reference/grpc_server.cc $(REFERENCE_PROTOS)
	$(call say,CXX,$@)
	$(Q)rm -rf $(OUT)/reference && mkdir -p $(OUT)/reference && \
	protoc --proto_path=proto --cpp_out=$(OUT)/reference --grpc_out=$(OUT)/reference \
		--plugin=protoc-gen-grpc=$$(command -v grpc_cpp_plugin) $(REFERENCE_PROTOS) && \
	$(CXX) -std=c++17 -O2 -g -Wall -Wextra -pthread -I$(OUT)/reference -o $@ $< \
		$$(find $(OUT)/reference -name '*.cc') $$(pkg-config --libs grpc++ protobuf) -lhiredis -ljansson -lsodium -lcrypto

# The same transcoding by libprotobuf's C++.
PBJSON_REFERENCE := $(OUT)/pbjson_reference
PBJSON_PROTOS := ringway/wide.proto google/api/annotations.proto google/api/http.proto

$(PBJSON_REFERENCE): bench/reference/pbjson.cc bench/order_text.h $(TEST_PROTOS)
	$(call say,CXX,$@)
	$(Q)rm -rf $(OUT)/reference-pbjson && mkdir -p $(OUT)/reference-pbjson && \
	protoc --proto_path=tests/conformance/proto --proto_path=$(PROTO_INCLUDE) --cpp_out=$(OUT)/reference-pbjson $(PBJSON_PROTOS) && \
	$(CXX) -std=c++17 -O2 -g -Wall -Wextra -pthread -iquote bench -I$(OUT)/reference-pbjson -o $@ $< \
		$$(find $(OUT)/reference-pbjson -name '*.cc') $$(pkg-config --libs protobuf)

bench-pbjson: $(OUT)/micro_pbjson $(OUT)/gen/tests.pb $(PBJSON_REFERENCE) ## transcoding beside libprotobuf's C++
	$(Q)$(OUT)/micro_pbjson $(OUT)/gen/tests.pb && $(PBJSON_REFERENCE)

reference: $(if $(shell command -v grpc_cpp_plugin),$(REFERENCE)) ## the gRPC C++ server of the benchmarks, if it can be built

bench: ## every piece of work beside its references, five rounds (WORKS="W1 W4" for some)
	$(Q)./bench/run $(WORKS)

bench-quick: ## as bench, shorter rounds and fewer
	$(Q)./bench/run --quick $(WORKS)

# the protos of tests/conformance in wire form: tests/conformance/descriptors.h
$(OUT)/gen/tests.pb: $(TEST_PROTOS)
	$(call say,PROTO,$@)
	$(Q)mkdir -p $(OUT)/gen && protoc --proto_path=tests/conformance/proto --proto_path=$(PROTO_INCLUDE) \
		--include_imports --descriptor_set_out=$@ $(TEST_PROTOS:tests/conformance/proto/%=%)

# speaks the protobuf conformance protocol: the official runner can be pointed at it (RUNNER=, `make conformance`)
$(OUT)/obj/tests/testee.o: tests/conformance/testee.c $(OUT)/gen/tests.pb | $(GEN_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -Itests -c -o $@ $<

$(OUT)/testee: $(OUT)/obj/tests/testee.o $(call archives,codec base) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(call grouped,codec base)

conformance: $(OUT)/testee ## the protobuf project's conformance suite (RUNNER= its conformance_test_runner)
	$(Q)$(if $(RUNNER),,@echo 'make conformance RUNNER=path/to/conformance_test_runner' >&2; exit 2;) \
		$(RUNNER) --enforce_recommended $(OUT)/testee

# tests/unit/<room>/test_x.c links its room and what the room needs, nothing more
$(patsubst tests/%.c,$(OUT)/tests/%.o,$(shell grep -lsE "conformance/descriptors.h|pbjson_harness.h|rest/planned.h|fuzz/messages.h" tests/unit/*/*.c tests/fuzz/*.c)): $(OUT)/gen/tests.pb

$(OUT)/tests/unit/%.o: tests/unit/%.c | $(GEN_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -Itests -c -o $@ $<

define unit_rule
$(patsubst tests/%.c,$(OUT)/tests/%,$(filter tests/unit/$(1)/%,$(UNIT_SRC))): %: %.o $(call archives,$(1) $(NEEDS_$(1))) $(OUT)/lib/gen.a
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$< $(call grouped,$(1) $(NEEDS_$(1))) -lcmocka
endef
$(foreach r,$(ROOMS),$(if $(filter tests/unit/$(r)/%,$(UNIT_SRC)),$(eval $(call unit_rule,$(r)))))

$(OUT)/tests/faults/%.o: tests/faults/%.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -fno-sanitize=all -fno-builtin $(if $(filter asan tsan,$(MODE)),-DSANITIZED) -c -o $@ $<

$(OUT)/tests/sim/%.o: tests/sim/%.c | $(GEN_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -Itests -c -o $@ $<

# The simulated ring defines all of uring/ring.h, so the archive's own ring is never pulled in.
$(SIM_BIN): %: %.o $(SIM_HELP) $(call archives,$(SIM_ROOMS)) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(SIM_HELP) $(call grouped,$(SIM_ROOMS)) -lcmocka

$(OUT)/tests/fuzz/%.o: tests/fuzz/%.c | $(GEN_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -Itests -c -o $@ $<

# What transcoding is compared with: libprotobuf's C++.
ORACLE_USERS := $(addprefix $(OUT)/tests/fuzz/fuzz_,json_to_wire wire_to_json)
$(OUT)/tests/fuzz/oracle.o: tests/fuzz/oracle.cc tests/fuzz/oracle.h
	$(call say,CXX,$@)
	$(Q)mkdir -p $(@D) && $(CXX) -std=c++17 -O1 -g -Wall -Wextra -Itests -c -o $@ $<

$(ORACLE_USERS): $(OUT)/tests/fuzz/oracle.o
$(ORACLE_USERS): ORACLE := $(OUT)/tests/fuzz/oracle.o -lprotobuf -lstdc++

$(FUZZ_BIN): %: %.o $(call archives,$(SERVER_ROOMS)) $(OUT)/lib/gen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< $(ORACLE) $(call grouped,$(SERVER_ROOMS))

check: ## everything that ./scripts/test runs
	$(Q)./scripts/test

unit: $(UNIT_BIN) ## unit tests (ROOM=codec for one room)
	$(Q)./scripts/run-tests $(if $(ROOM),$(filter $(OUT)/tests/unit/$(ROOM)/%,$^),$^)

unit-bins: $(if $(ROOM),$(filter $(OUT)/tests/unit/$(ROOM)/%,$(UNIT_BIN)),$(UNIT_BIN))

unit-room: unit-bins ## as unit with ROOM=, building that room's tests only
	$(Q)./scripts/run-tests $(filter $(OUT)/tests/unit/$(ROOM)/%,$(UNIT_BIN))

sim: $(SIM_BIN) ## simulation tests: two ends, virtual clock, seeded faults
	$(Q)./scripts/run-tests $^

net: all ## black-box tests against the built programs (ARGS= for pytest)
	$(Q)./scripts/run-pytest $(ARGS)

faults: all ## each allocation of each story refused in turn (PART=2/8: every eighth from the second on; ARGS= for pytest)
	$(Q)FAULTS=$(or $(PART),1/1) ./scripts/run-pytest tests/net/test_memory_faults.py $(ARGS)

.PHONY: attacks
attacks: all ## what a client notices of each HTTP/2 attack beside it (NAMES="hpack_bomb" for some)
	$(Q)BUILD=$(BUILD) MODE=$(MODE) PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/net/measure_attacks.py $(NAMES)

.PHONY: dependencies
dependencies: all ## break everything the program leans on, one after the other; prints how long each was felt
	$(Q)DEPENDENCY_TIMES=1 ./scripts/run-pytest tests/net/test_dependencies.py

fuzz-bins: $(FUZZ_BIN)

fuzz: ## libFuzzer over the parsers, FUZZ_SECONDS each (60; NAMES="http1 h2" for some)
	$(Q)BUILD=$(BUILD) ./scripts/fuzz $(if $(RECORD),--record) $(FUZZ_SECONDS) $(NAMES)

memcheck: ## the fuzzers' committed inputs under valgrind (NAMES="http1 h2" for some)
	$(Q)BUILD=$(BUILD) ./scripts/memcheck $(NAMES)

soak: all ## mixed load with faults for DURATION (30m); RECORD=1 keeps the report in tests/soak/README.md
	$(Q)BUILD=$(BUILD) MODE=$(MODE) PYTHONDONTWRITEBYTECODE=1 ./tests/soak/soak.py --duration $(or $(DURATION),30m) \
		--report $(BUILD)/soak.md $(if $(RECORD),--record)

lint: ## layers, forbidden calls, sizes, names, systemd units
	$(Q)./scripts/check-layers && ./scripts/tidy && ./scripts/check-units

# What scripts/analyze asks for: headers that are made, and objects without their programs.
generated: $(GEN_C) $(OUT)/gen/descriptors.pb

analyzed: $(foreach r,$(ROOMS),$(call objs,$(r))) $(OUT)/obj/main.o

analyze: ## static analysis of src: cppcheck, gcc -fanalyzer, clang-tidy (TOOLS="cppcheck" for some)
	$(Q)BUILD=$(BUILD) ./scripts/analyze $(TOOLS)

format: ## clang-format the tree in place
	$(Q)clang-format -i $(shell git ls-files '*.c' '*.h')

$(OUT)/man/%: systemd/man/%.in scripts/write-man $(OUT)/ringway $(OUT)/ringway-client
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D) && ./scripts/write-man $< $(OUT)/$(basename $*) '$(MAN_DATE)' >$@

man: $(MAN_PAGES) ## the man pages, with what --help says in them

install: $(OUT)/ringway $(OUT)/ringway-client man ## programs, units, man pages, completion, README, alerts (DESTDIR, PREFIX)
	install -d $(addprefix $(TO)/,bin lib/systemd/system $(INSTALL_MAN) $(INSTALL_COMPLETION) $(INSTALL_DOC))
	install -m 0755 $(OUT)/ringway $(OUT)/ringway-client $(TO)/bin
	for unit in $(UNITS); do \
		sed 's|/usr/bin/ringway|$(PREFIX)/bin/ringway|g' systemd/$$unit >$(TO)/lib/systemd/system/$$unit && \
		chmod 0644 $(TO)/lib/systemd/system/$$unit || exit 1; done
	install -m 0644 $(OUT)/man/ringway.8 $(TO)/share/man/man8
	install -m 0644 $(OUT)/man/ringway-client.1 $(TO)/share/man/man1
	install -m 0644 $(COMPLETIONS) $(TO)/$(INSTALL_COMPLETION)
	install -m 0644 systemd/ringway.env $(TO)/$(INSTALL_DOC)/ringway.env.example
	install -m 0644 README.md scripts/observability/alerts.yml scripts/observability/dashboard.json $(TO)/$(INSTALL_DOC)

uninstall: ## removes what install put there (DESTDIR, PREFIX)
	rm -f $(TO)/bin/ringway $(TO)/bin/ringway-client $(addprefix $(TO)/lib/systemd/system/,$(UNITS)) \
		$(TO)/share/man/man8/ringway.8 $(TO)/share/man/man1/ringway-client.1 \
		$(addprefix $(TO)/$(INSTALL_COMPLETION)/,$(notdir $(COMPLETIONS)))
	rm -rf $(TO)/$(INSTALL_DOC)

deb: $(OUT)/ringway $(OUT)/ringway-client man ## a Debian package: build/ringway_<version>_<arch>.deb
	+$(Q)./scripts/make-deb '$(OUT)' '$(BUILD)' '$(VERSION)' '$(COMMIT)'

clean: ## remove everything that was built
	rm -rf $(BUILD)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
