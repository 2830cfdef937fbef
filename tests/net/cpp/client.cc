// A gRPC client by the C++ library. Speaks lines with tests/net/test_clients.py: see there.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

namespace {

std::string from_hex(const std::string &text)
{
	std::string bytes;

	for (size_t i = 0; i + 1 < text.size(); i += 2)
		bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
	return bytes;
}

std::string to_hex(const grpc::ByteBuffer &buffer)
{
	static const char digits[] = "0123456789abcdef";
	std::vector<grpc::Slice> slices;
	std::string text;

	if (!buffer.Valid() || !buffer.Dump(&slices).ok())
		return "-";
	for (const grpc::Slice &slice : slices) {
		for (size_t i = 0; i < slice.size(); i++) {
			text.push_back(digits[slice.begin()[i] >> 4]);
			text.push_back(digits[slice.begin()[i] & 15]);
		}
	}
	return text.empty() ? "-" : text;
}

grpc::ByteBuffer to_buffer(const std::string &bytes)
{
	grpc::Slice slice(bytes);

	return grpc::ByteBuffer(&slice, 1);
}

struct Arguments {
	std::string address, path, mode;
	int deadline_ms, keepalive_ms;
};

void prepare(grpc::ClientContext *context, const Arguments &arguments)
{
	context->AddMetadata("x-request-id", "from-cpp");
	context->AddMetadata("x-many", "1");
	context->AddMetadata("x-many", "2");
	context->AddMetadata("x-bytes-bin", std::string("\0\1\376\377", 4));
	if (arguments.deadline_ms > 0)
		context->set_deadline(std::chrono::system_clock::now() +
				      std::chrono::milliseconds(arguments.deadline_ms));
}

struct Unary {
	grpc::ClientContext context;
	grpc::ByteBuffer answer;
	grpc::Status status;
	std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
};

void run_unary(grpc::GenericStub *stub, const Arguments &arguments,
	       const std::vector<std::string> &requests)
{
	grpc::CompletionQueue queue;
	std::vector<Unary> calls(requests.size());
	void *tag;
	bool ok;

	for (size_t i = 0; i < requests.size(); i++) {
		prepare(&calls[i].context, arguments);
		calls[i].reader = stub->PrepareUnaryCall(&calls[i].context, arguments.path,
							 to_buffer(requests[i]), &queue);
		calls[i].reader->StartCall();
		calls[i].reader->Finish(&calls[i].answer, &calls[i].status,
					reinterpret_cast<void *>(i));
	}
	for (size_t left = requests.size(); left > 0 && queue.Next(&tag, &ok); left--) {
		size_t i = reinterpret_cast<size_t>(tag);
		const grpc::Status &status = calls[i].status;

		std::cout << "result " << i << " " << status.error_code() << " "
			  << to_hex(calls[i].answer) << " " << status.error_message() << std::endl;
	}
}

void run_stream(grpc::GenericStub *stub, const Arguments &arguments, const std::string &request)
{
	enum { START = 1, WRITE, READ, FINISH };
	grpc::CompletionQueue queue;
	grpc::ClientContext context;
	grpc::ByteBuffer event;
	grpc::Status status;
	void *tag;
	bool ok;

	prepare(&context, arguments);
	auto stream = stub->PrepareCall(&context, arguments.path, &queue);
	stream->StartCall(reinterpret_cast<void *>(START));
	std::thread canceller([&context] {
		std::string line;

		while (std::getline(std::cin, line))
			if (line == "cancel")
				context.TryCancel();
	});
	canceller.detach();
	while (queue.Next(&tag, &ok)) {
		switch (reinterpret_cast<intptr_t>(tag)) {
		case START:
			stream->WriteLast(to_buffer(request), grpc::WriteOptions(),
					  reinterpret_cast<void *>(WRITE));
			break;
		case WRITE:
			stream->Read(&event, reinterpret_cast<void *>(READ));
			break;
		case READ:
			if (ok) {
				std::cout << "event " << to_hex(event) << std::endl;
				stream->Read(&event, reinterpret_cast<void *>(READ));
			} else {
				stream->Finish(&status, reinterpret_cast<void *>(FINISH));
			}
			break;
		case FINISH:
			std::cout << "end " << status.error_code() << " " << status.error_message()
				  << std::endl;
			std::_Exit(0);
		}
	}
}

} // namespace

int main(int argc, char **argv)
{
	std::vector<std::string> requests;
	grpc::ChannelArguments options;
	std::string line;

	if (argc != 6)
		return 2;
	Arguments arguments = {argv[1], argv[2], argv[3], std::atoi(argv[4]), std::atoi(argv[5])};
	while (std::getline(std::cin, line) && line != "go")
		requests.push_back(from_hex(line));
	options.SetMaxReceiveMessageSize(64 << 20);
	options.SetMaxSendMessageSize(64 << 20);
	options.SetInt("grpc.enable_http_proxy", 0);
	if (arguments.keepalive_ms > 0) {
		options.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, arguments.keepalive_ms);
		options.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
		options.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
		options.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
	}
	grpc::GenericStub stub(
		grpc::CreateCustomChannel(arguments.address, grpc::InsecureChannelCredentials(), options));
	if (arguments.mode == "unary")
		run_unary(&stub, arguments, requests);
	else
		run_stream(&stub, arguments, requests[0]);
	return 0;
}
