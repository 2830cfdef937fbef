// What transcoding the messages of bench/micro_pbjson.c costs with libprotobuf's C++ and code generated for them.
// Prints one JSON object like that program's.
#include "order_text.h"
#include "ringway/wide.pb.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

namespace
{

constexpr int rounds_count = 9;
constexpr std::uint64_t round_ns = 20000000;

std::uint64_t now_ns()
{
	timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return static_cast<std::uint64_t>(now.tv_sec) * 1000000000 + static_cast<std::uint64_t>(now.tv_nsec);
}

std::string measure(const std::function<void()> &once)
{
	std::vector<double> rounds;
	char text[128];

	for (int i = 0; i < rounds_count; i++) {
		std::uint64_t started = now_ns(), spent;
		unsigned count = 0;

		do {
			for (int j = 0; j < 16; j++)
				once();
			count += 16;
			spent = now_ns() - started;
		} while (spent < round_ns);
		rounds.push_back(static_cast<double>(spent) / count);
	}
	std::sort(rounds.begin(), rounds.end());
	snprintf(text, sizeof(text), "{\"min\":%.0f,\"median\":%.0f,\"max\":%.0f}", rounds.front(),
		 rounds[rounds_count / 2], rounds.back());
	return text;
}

struct Input {
	const char *name;
	std::string text, wire;
	ringway::test::Order order;
};

void check(bool condition)
{
	if (!condition) {
		fprintf(stderr, "pbjson reference: a conversion failed\n");
		exit(1);
	}
}

} // namespace

int main()
{
	namespace util = google::protobuf::util;
	Input inputs[2] = {{"1k", "", "", {}}, {"100k", "", "", {}}};
	const unsigned line_counts[2] = {3, 450};
	std::string to_wire, convert_in, to_json, convert_out;

	for (int i = 0; i < 2; i++) {
		Input &input = inputs[i];
		size_t len = 0;
		char *text = order_text(line_counts[i], &len);
		std::string comma = i ? "," : "", name = comma + "\"" + input.name + "\":";
		ringway::test::Order order;
		std::string out;

		check(text);
		input.text.assign(text, len);
		free(text);
		check(util::JsonStringToMessage(input.text, &input.order).ok());
		input.wire = input.order.SerializeAsString();
		convert_in += name + measure([&] {
			order.Clear();
			check(util::JsonStringToMessage(input.text, &order).ok());
		});
		to_wire += name + measure([&] {
			order.Clear();
			check(util::JsonStringToMessage(input.text, &order).ok());
			out.clear();
			order.SerializeToString(&out);
		});
		convert_out += name + measure([&] {
			out.clear();
			check(util::MessageToJsonString(input.order, &out).ok());
		});
		to_json += name + measure([&] {
			order.Clear();
			check(order.ParseFromString(input.wire));
			out.clear();
			check(util::MessageToJsonString(order, &out).ok());
		});
	}
	printf("{\"work\":\"pbjson\",\"program\":\"libprotobuf\",\"json_to_wire_ns\":{%s},\"wire_to_json_ns\":{%s},"
	       "\"json_to_message_ns\":{%s},\"message_to_json_ns\":{%s}}\n",
	       to_wire.c_str(), to_json.c_str(), convert_in.c_str(), convert_out.c_str());
	return 0;
}
