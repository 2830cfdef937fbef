#include "fuzz/oracle.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pb = google::protobuf;

namespace
{

pb::DescriptorPool pool;
std::unique_ptr<pb::DynamicMessageFactory> factory;

// A line of libprotobuf's; it may repeat a text of the message with a NUL in it.
const char *say(std::string line)
{
	static std::string said;

	said = std::move(line);
	std::replace(said.begin(), said.end(), '\0', '?');
	return said.c_str();
}

std::unique_ptr<pb::Message> make(const char *type)
{
	const pb::Descriptor *descriptor = pool.FindMessageTypeByName(type);

	if (!descriptor)
		abort();
	return std::unique_ptr<pb::Message>(factory->GetPrototype(descriptor)->New());
}

bool parse(pb::Message *message, struct oracle_bytes wire)
{
	pb::io::CodedInputStream in(static_cast<const uint8_t *>(wire.data), static_cast<int>(wire.len));

	in.SetRecursionLimit(1000);
	return message->ParseFromCodedStream(&in) && in.ConsumedEntireMessage();
}

std::string key_of(const pb::Message &entry)
{
	std::unique_ptr<pb::Message> key(entry.New());

	key->CopyFrom(entry);
	key->GetReflection()->ClearField(key.get(), key->GetDescriptor()->map_value());
	key->GetReflection()->MutableUnknownFields(key.get())->Clear();
	return key->SerializePartialAsString();
}

// A dynamic message keeps a map's entries as they came: only the last of a key counts.
void drop_overridden(pb::Message *message, const pb::FieldDescriptor *field)
{
	const pb::Reflection *reflection = message->GetReflection();
	std::map<std::string, int> last;
	int kept = 0, count = reflection->FieldSize(*message, field);

	for (int i = 0; i < count; i++)
		last[key_of(reflection->GetRepeatedMessage(*message, field, i))] = i;
	for (int i = 0; i < count; i++) {
		if (last[key_of(reflection->GetRepeatedMessage(*message, field, i))] == i)
			reflection->SwapElements(message, field, kept++, i);
	}
	for (; count > kept; count--)
		reflection->RemoveLast(message, field);
}

void settle(pb::Message *message)
{
	const pb::Reflection *reflection = message->GetReflection();
	std::vector<const pb::FieldDescriptor *> fields;

	reflection->ListFields(*message, &fields);
	for (const pb::FieldDescriptor *field : fields) {
		if (field->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE)
			continue;
		if (field->is_map())
			drop_overridden(message, field);
		if (!field->is_repeated()) {
			settle(reflection->MutableMessage(message, field));
			continue;
		}
		for (int i = 0; i < reflection->FieldSize(*message, field); i++)
			settle(reflection->MutableRepeatedMessage(message, field, i));
	}
}

// A text has none. Those of a message in an Any are read only when it is compared.
class WithoutUnknown : public pb::util::MessageDifferencer::IgnoreCriteria {
	using Field = pb::util::MessageDifferencer::SpecificField;

	bool IsIgnored(const pb::Message &, const pb::Message &, const pb::FieldDescriptor *,
		       const std::vector<Field> &) override
	{
		return false;
	}
	bool IsUnknownFieldIgnored(const pb::Message &, const pb::Message &, const Field &,
				   const std::vector<Field> &) override
	{
		return true;
	}
};

} // namespace

void oracle_start(struct oracle_bytes descriptor_set)
{
	pb::FileDescriptorSet set;

	pb::SetLogHandler(nullptr);
	if (!set.ParseFromArray(descriptor_set.data, static_cast<int>(descriptor_set.len)))
		abort();
	for (const pb::FileDescriptorProto &file : set.file()) {
		if (!pool.BuildFile(file))
			abort();
	}
	factory.reset(new pb::DynamicMessageFactory(&pool));
}

bool oracle_parses(const char *type, struct oracle_bytes wire)
{
	return parse(make(type).get(), wire);
}

bool oracle_writes(const char *type, struct oracle_bytes wire)
{
	std::unique_ptr<pb::Message> message = make(type);
	std::string text;

	return parse(message.get(), wire) && pb::util::MessageToJsonString(*message, &text).ok();
}

enum oracle_verdict oracle_compare(const char *type, struct oracle_bytes text, struct oracle_bytes wire,
				   bool ignore_unknown, const char **why)
{
	std::unique_ptr<pb::Message> from_text = make(type), from_wire = make(type);
	pb::util::JsonParseOptions options;
	pb::util::MessageDifferencer differencer;
	std::string json(static_cast<const char *>(text.data), text.len), report;

	options.ignore_unknown_fields = ignore_unknown;
	*why = "";

	auto status = pb::util::JsonStringToMessage(json, from_text.get(), options);

	if (!status.ok()) {
		*why = say(status.ToString());
		return ORACLE_REFUSED;
	}
	if (!parse(from_wire.get(), wire)) {
		*why = ORACLE_UNPARSED;
		return ORACLE_DIFFERS;
	}
	settle(from_wire.get());
	differencer.ReportDifferencesToString(&report);
	differencer.AddIgnoreCriteria(new WithoutUnknown); // its owner now

	pb::util::DefaultFieldComparator comparator;

	comparator.set_treat_nan_as_equal(true);
	differencer.set_field_comparator(&comparator);
	if (differencer.Compare(*from_wire, *from_text))
		return ORACLE_SAME;
	*why = say(report);
	return ORACLE_DIFFERS;
}
