// The gateway's ExecuteCommand built the usual way, to measure the gateway beside it: gRPC C++ (one completion
// queue, one thread), libsodium, OpenSSL, hiredis, jansson. Same checks in the same order, same Redis, same upstream:
// envelope, version, session (kept after the first look into Redis), hash, signature, freshness, replay reservation
// (pipelined: everything waiting goes out in one write), the call to the handler, the signed answer. Nothing else
// that the gateway has: no push, no budgets, no metrics, no revocation. Also grpc.health.v1 Check.
//
//   grpc_server --listen ADDR --redis HOST:PORT|unix:PATH --upstream ADDR --signer PEM
//               [--key-prefix gateway:session:] [--replay-prefix gateway:replay:]
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <getopt.h>

#include <grpcpp/grpcpp.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>

#include "galaxy/gateway/v1/command_handler.grpc.pb.h"
#include "galaxy/gateway/v1/edge_gateway.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace edge = galaxy::gateway::v1;
namespace health = grpc::health::v1;

namespace {

constexpr int calls_waiting = 512; // posted to the library ahead, for calls that come
constexpr int64_t freshness_ms = 5 * 60 * 1000;
constexpr size_t text_bytes_max = 128;
constexpr auto upstream_deadline = std::chrono::seconds(2);

struct Options {
	std::string listen, redis, upstream, signer;
	std::string key_prefix = "gateway:session:", replay_prefix = "gateway:replay:";
};

int64_t now_ms()
{
	return std::chrono::duration_cast<std::chrono::milliseconds>(
		       std::chrono::system_clock::now().time_since_epoch())
		.count();
}

// ---- what is signed (edge.md §2.1) ----

void add_bytes(std::string *out, const std::string &bytes)
{
	size_t len = bytes.size();

	for (; len >= 0x80; len >>= 7)
		out->push_back(static_cast<char>(len | 0x80));
	out->push_back(static_cast<char>(len));
	out->append(bytes);
}

void add_time(std::string *out, int64_t ms)
{
	for (int shift = 56; shift >= 0; shift -= 8)
		out->push_back(static_cast<char>(static_cast<uint64_t>(ms) >> shift));
}

class Digest {
public:
	std::string operator()(const std::string &bytes)
	{
		unsigned char hash[32];
		unsigned len = 0;

		if (EVP_DigestInit_ex2(context_, algorithm_, nullptr) != 1 ||
		    EVP_DigestUpdate(context_, bytes.data(), bytes.size()) != 1 ||
		    EVP_DigestFinal_ex(context_, hash, &len) != 1)
			abort();
		return std::string(reinterpret_cast<char *>(hash), len);
	}

private:
	EVP_MD *algorithm_ = EVP_MD_fetch(nullptr, "SHA256", nullptr);
	EVP_MD_CTX *context_ = EVP_MD_CTX_new();
};

struct SigningKey {
	unsigned char secret[crypto_sign_SECRETKEYBYTES];

	bool load(const std::string &path)
	{
		unsigned char seed[32], ignored[crypto_sign_PUBLICKEYBYTES];
		size_t len = sizeof(seed);
		FILE *file = fopen(path.c_str(), "r");
		EVP_PKEY *key = file ? PEM_read_PrivateKey(file, nullptr, nullptr, nullptr) : nullptr;
		bool ok = key && EVP_PKEY_get_raw_private_key(key, seed, &len) == 1 && len == sizeof(seed);

		if (ok)
			crypto_sign_seed_keypair(ignored, secret, seed);
		EVP_PKEY_free(key);
		if (file)
			fclose(file);
		return ok;
	}

	std::string sign(const std::string &input) const
	{
		unsigned char out[crypto_sign_BYTES];

		crypto_sign_detached(out, nullptr, reinterpret_cast<const unsigned char *>(input.data()),
				     input.size(), secret);
		return std::string(reinterpret_cast<char *>(out), sizeof(out));
	}
};

// ---- Redis ----

redisContext *redis_open(const std::string &address)
{
	redisContext *context;

	if (address.rfind("unix:", 0) == 0) {
		context = redisConnectUnix(address.c_str() + 5);
	} else {
		size_t colon = address.rfind(':');

		context = redisConnect(address.substr(0, colon).c_str(), std::stoi(address.substr(colon + 1)));
	}
	if (!context || context->err) {
		fprintf(stderr, "grpc_server: redis: %s\n", context ? context->errstr : "no memory");
		exit(1);
	}
	return context;
}

struct Session {
	std::string user;
	unsigned char key[crypto_sign_PUBLICKEYBYTES];
	bool is_active;
};

class Sessions {
public:
	Sessions(const Options &options) : prefix_(options.key_prefix), redis_(redis_open(options.redis)) {}

	// nullptr with `status`. Asks Redis only for what it has not seen.
	const Session *find(const std::string &id, grpc::Status *status)
	{
		auto found = cache_.find(id);

		if (found != cache_.end())
			return &found->second;
		std::string name = prefix_ + id;
		auto *answer = static_cast<redisReply *>(redisCommand(redis_, "GET %b", name.data(), name.size()));
		Session session;

		if (answer && answer->type == REDIS_REPLY_NIL)
			*status = grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "unknown device session");
		else if (answer && answer->type == REDIS_REPLY_STRING && read(answer, id, &session))
			found = cache_.emplace(id, session).first;
		else
			*status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "session cache is unavailable");
		freeReplyObject(answer);
		return found == cache_.end() ? nullptr : &found->second;
	}

private:
	static bool read(const redisReply *answer, const std::string &id, Session *session)
	{
		json_t *root = json_loadb(answer->str, answer->len, 0, nullptr);
		const char *name, *user, *key, *status;
		size_t len = 0;
		bool ok = root &&
			  json_unpack(root, "{s:s, s:s, s:s, s:s}", "device_session_id", &name, "user_id", &user,
				      "client_public_key", &key, "status", &status) == 0 &&
			  id == name &&
			  sodium_base642bin(session->key, sizeof(session->key), key, strlen(key), nullptr, &len,
					    nullptr, sodium_base64_VARIANT_ORIGINAL) == 0 &&
			  len == sizeof(session->key);

		if (ok) {
			session->user = user;
			session->is_active = strcmp(status, "active") == 0;
		}
		json_decref(root);
		return ok;
	}

	std::string prefix_;
	redisContext *redis_;
	std::unordered_map<std::string, Session> cache_;
};

enum class Reservation { made, replay, unavailable };

class ReplayUser {
public:
	virtual ~ReplayUser() = default;
	virtual void reserved(Reservation result) = 0; // on the Redis thread
	std::string replay_key;
};

// A thread that writes all reservations that wait in one go, reads their answers, and begins again.
class ReplayStore {
public:
	ReplayStore(const Options &options)
	    : redis_(redis_open(options.redis)), ttl_(std::to_string(2 * freshness_ms + 1000)),
	      thread_([this] { run(); })
	{
	}

	void reserve(ReplayUser *user)
	{
		std::lock_guard<std::mutex> lock(mutex_);

		waiting_.push_back(user);
		if (waiting_.size() == 1)
			wake_.notify_one();
	}

	void stop()
	{
		{
			std::lock_guard<std::mutex> lock(mutex_);
			is_ending_ = true;
			wake_.notify_one();
		}
		thread_.join();
		redisFree(redis_);
	}

private:
	void run()
	{
		std::vector<ReplayUser *> batch;

		while (true) {
			{
				std::unique_lock<std::mutex> lock(mutex_);

				wake_.wait(lock, [this] { return !waiting_.empty() || is_ending_; });
				if (waiting_.empty())
					return;
				batch.swap(waiting_);
			}
			for (ReplayUser *user : batch)
				append(user->replay_key);
			for (ReplayUser *user : batch)
				user->reserved(answer());
			batch.clear();
		}
	}

	void append(const std::string &key)
	{
		const char *words[] = {"SET", key.data(), "1", "NX", "PX", ttl_.c_str()};
		const size_t lens[] = {3, key.size(), 1, 2, 2, ttl_.size()};

		redisAppendCommandArgv(redis_, 6, words, lens);
	}

	Reservation answer()
	{
		redisReply *reply = nullptr;
		Reservation result = Reservation::unavailable;

		if (redisGetReply(redis_, reinterpret_cast<void **>(&reply)) == REDIS_OK) {
			if (reply->type == REDIS_REPLY_STATUS)
				result = Reservation::made;
			else if (reply->type == REDIS_REPLY_NIL)
				result = Reservation::replay;
		}
		freeReplyObject(reply);
		return result;
	}

	redisContext *redis_;
	std::string ttl_;
	std::mutex mutex_;
	std::condition_variable wake_;
	std::vector<ReplayUser *> waiting_;
	bool is_ending_ = false;
	std::thread thread_; // last: it starts when all above is there
};

// ---- calls ----

struct Gateway {
	Options options;
	SigningKey key;
	Digest digest;
	std::unique_ptr<Sessions> sessions;
	std::unique_ptr<ReplayStore> replay;
	edge::EdgeGateway::AsyncService service;
	health::Health::AsyncService health_service;
	std::unique_ptr<edge::CommandHandler::Stub> handler;
	std::unique_ptr<grpc::ServerCompletionQueue> queue;
};

class Step { // what the completion queue hands back
public:
	virtual ~Step() = default;
	virtual void proceed(bool ok) = 0;
};

bool is_printable(const std::string &text)
{
	if (text.size() > text_bytes_max)
		return false;
	for (unsigned char c : text)
		if (c < 0x20 || c > 0x7e)
			return false;
	return true;
}

grpc::Status refuse(grpc::StatusCode code, const std::string &why)
{
	return grpc::Status(code, why);
}

grpc::Status check_envelope(const edge::ExecuteCommandRequest &request)
{
	const std::pair<const char *, const std::string *> fields[] = {
		{"protocol_version", &request.protocol_version()},
		{"device_session_id", &request.device_session_id()},
		{"message_type", &request.message_type()},
		{"request_id", &request.request_id()},
		{"payload_hash", &request.payload_hash()},
		{"signature", &request.signature()},
	};

	for (const auto &field : fields) {
		bool is_text = field.second != &request.payload_hash() && field.second != &request.signature();

		if (field.second->empty())
			return refuse(grpc::StatusCode::INVALID_ARGUMENT,
				      std::string(field.first) + " must not be empty");
		if (is_text && !is_printable(*field.second))
			return refuse(grpc::StatusCode::INVALID_ARGUMENT, std::string(field.first) + " is invalid");
	}
	if (request.timestamp_ms() <= 0)
		return refuse(grpc::StatusCode::INVALID_ARGUMENT, "timestamp_ms must not be empty");
	if (request.trace_id().size() > text_bytes_max)
		return refuse(grpc::StatusCode::INVALID_ARGUMENT, "trace_id is invalid");
	if (request.protocol_version() != "v1")
		return refuse(grpc::StatusCode::FAILED_PRECONDITION, "unsupported protocol_version");
	return grpc::Status::OK;
}

class Execute : public Step, public ReplayUser {
public:
	Execute(Gateway *gateway) : gateway_(gateway), responder_(&context_)
	{
		gateway->service.RequestExecuteCommand(&context_, &request_, &responder_, gateway->queue.get(),
						       gateway->queue.get(), static_cast<Step *>(this));
	}

	void proceed(bool ok) override
	{
		if (state_ == State::waiting && ok) {
			new Execute(gateway_);
			grpc::Status status = check();

			if (!status.ok())
				finish(status);
			else
				gateway_->replay->reserve(this);
		} else if (state_ == State::upstream) {
			answer();
		} else {
			delete this;
		}
	}

	void reserved(Reservation result) override
	{
		if (result == Reservation::made)
			call_upstream();
		else if (result == Reservation::replay)
			finish(refuse(grpc::StatusCode::FAILED_PRECONDITION, "request replay detected"));
		else
			finish(refuse(grpc::StatusCode::UNAVAILABLE, "replay store is unavailable"));
	}

private:
	enum class State { waiting, upstream, finishing };

	grpc::Status check()
	{
		grpc::Status status = check_envelope(request_);

		if (!status.ok())
			return status;
		session_ = gateway_->sessions->find(request_.device_session_id(), &status);
		if (!session_)
			return status;
		if (!session_->is_active)
			return refuse(grpc::StatusCode::FAILED_PRECONDITION, "device session is revoked");
		if (request_.payload_hash().size() != 32)
			return refuse(grpc::StatusCode::INVALID_ARGUMENT,
				      "payload_hash must be a 32-byte SHA-256 digest");
		if (gateway_->digest(request_.payload_bytes()) != request_.payload_hash())
			return refuse(grpc::StatusCode::INVALID_ARGUMENT,
				      "payload_hash does not match payload_bytes");
		if (!is_signed())
			return refuse(grpc::StatusCode::UNAUTHENTICATED, "invalid request signature");
		if (std::abs(now_ms() - request_.timestamp_ms()) > freshness_ms)
			return refuse(grpc::StatusCode::FAILED_PRECONDITION,
				      "request timestamp is outside the freshness window");
		replay_key = gateway_->options.replay_prefix + std::to_string(request_.device_session_id().size()) +
			     ":" + request_.device_session_id() + ":" + request_.request_id();
		return grpc::Status::OK;
	}

	bool is_signed() const
	{
		std::string input;

		if (request_.signature().size() != crypto_sign_BYTES)
			return false;
		add_bytes(&input, "galaxy-request-v1");
		add_bytes(&input, request_.protocol_version());
		add_bytes(&input, request_.device_session_id());
		add_bytes(&input, request_.message_type());
		add_time(&input, request_.timestamp_ms());
		add_bytes(&input, request_.request_id());
		add_bytes(&input, request_.payload_hash());
		return crypto_sign_verify_detached(
			       reinterpret_cast<const unsigned char *>(request_.signature().data()),
			       reinterpret_cast<const unsigned char *>(input.data()), input.size(),
			       session_->key) == 0;
	}

	void call_upstream()
	{
		command_.set_user_id(session_->user);
		command_.set_device_session_id(request_.device_session_id());
		command_.set_message_type(request_.message_type());
		command_.set_request_id(request_.request_id());
		command_.set_trace_id(request_.trace_id());
		command_.set_timestamp_ms(request_.timestamp_ms());
		command_.set_payload_bytes(request_.payload_bytes());
		upstream_context_.set_deadline(std::chrono::system_clock::now() + upstream_deadline);
		state_ = State::upstream;
		upstream_ = gateway_->handler->AsyncHandle(&upstream_context_, command_, gateway_->queue.get());
		upstream_->Finish(&result_, &upstream_status_, static_cast<Step *>(this));
	}

	void answer()
	{
		std::string input;

		if (!upstream_status_.ok()) {
			finish(refuse(upstream_status_.error_code(), "downstream service failed"));
			return;
		}
		response_.set_protocol_version("v1");
		response_.set_request_id(request_.request_id());
		response_.set_timestamp_ms(now_ms());
		response_.set_result_code(result_.result_code());
		response_.set_payload_bytes(result_.payload_bytes());
		response_.set_payload_hash(gateway_->digest(result_.payload_bytes()));
		add_bytes(&input, "galaxy-response-v1");
		add_bytes(&input, response_.protocol_version());
		add_bytes(&input, response_.request_id());
		add_time(&input, response_.timestamp_ms());
		add_bytes(&input, response_.result_code());
		add_bytes(&input, response_.payload_hash());
		response_.set_signature(gateway_->key.sign(input));
		state_ = State::finishing;
		responder_.Finish(response_, grpc::Status::OK, static_cast<Step *>(this));
	}

	void finish(const grpc::Status &status)
	{
		state_ = State::finishing;
		responder_.FinishWithError(status, static_cast<Step *>(this));
	}

	Gateway *gateway_;
	State state_ = State::waiting;
	grpc::ServerContext context_;
	edge::ExecuteCommandRequest request_;
	edge::ExecuteCommandResponse response_;
	grpc::ServerAsyncResponseWriter<edge::ExecuteCommandResponse> responder_;
	const Session *session_ = nullptr;
	grpc::ClientContext upstream_context_;
	edge::AuthenticatedCommand command_;
	edge::CommandResult result_;
	grpc::Status upstream_status_;
	std::unique_ptr<grpc::ClientAsyncResponseReader<edge::CommandResult>> upstream_;
};

class Check : public Step {
public:
	Check(Gateway *gateway) : gateway_(gateway), responder_(&context_)
	{
		gateway->health_service.RequestCheck(&context_, &request_, &responder_, gateway->queue.get(),
						     gateway->queue.get(), static_cast<Step *>(this));
	}

	void proceed(bool ok) override
	{
		if (is_finishing_ || !ok) {
			delete this;
			return;
		}
		new Check(gateway_);
		is_finishing_ = true;
		response_.set_status(health::HealthCheckResponse::SERVING);
		if (request_.service().empty())
			responder_.Finish(response_, grpc::Status::OK, static_cast<Step *>(this));
		else
			responder_.FinishWithError(refuse(grpc::StatusCode::NOT_FOUND, "unknown service"),
						   static_cast<Step *>(this));
	}

private:
	Gateway *gateway_;
	bool is_finishing_ = false;
	grpc::ServerContext context_;
	health::HealthCheckRequest request_;
	health::HealthCheckResponse response_;
	grpc::ServerAsyncResponseWriter<health::HealthCheckResponse> responder_;
};

// ---- the program ----

bool read_options(Options *options, int argc, char **argv)
{
	static const struct option names[] = {
		{"listen", required_argument, nullptr, 'l'},	 {"redis", required_argument, nullptr, 'r'},
		{"upstream", required_argument, nullptr, 'u'},	 {"signer", required_argument, nullptr, 's'},
		{"key-prefix", required_argument, nullptr, 'k'}, {"replay-prefix", required_argument, nullptr, 'p'},
		{nullptr, 0, nullptr, 0},
	};

	for (int option; (option = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
		switch (option) {
		case 'l':
			options->listen = optarg;
			break;
		case 'r':
			options->redis = optarg;
			break;
		case 'u':
			options->upstream = optarg;
			break;
		case 's':
			options->signer = optarg;
			break;
		case 'k':
			options->key_prefix = optarg;
			break;
		case 'p':
			options->replay_prefix = optarg;
			break;
		default:
			return false;
		}
	}
	return optind == argc && !options->listen.empty() && !options->redis.empty() &&
	       !options->upstream.empty() && !options->signer.empty();
}

void serve(Gateway *gateway)
{
	for (int i = 0; i < calls_waiting; i++) {
		new Execute(gateway);
		new Check(gateway);
	}
	void *tag;
	bool ok;

	while (gateway->queue->Next(&tag, &ok))
		static_cast<Step *>(tag)->proceed(ok);
}

} // namespace

int main(int argc, char **argv)
{
	Gateway gateway;
	sigset_t signals;
	int number, port = 0;

	// before the library makes threads: all inherit it, and the end comes to sigwait alone
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, nullptr);
	if (!read_options(&gateway.options, argc, argv)) {
		fputs("usage: grpc_server --listen ADDR --redis ADDR --upstream ADDR --signer PEM\n"
		      "                   [--key-prefix TEXT] [--replay-prefix TEXT]\n",
		      stderr);
		return 2;
	}
	if (sodium_init() < 0 || !gateway.key.load(gateway.options.signer)) {
		fputs("grpc_server: the signer's key cannot be read\n", stderr);
		return 1;
	}
	gateway.sessions = std::make_unique<Sessions>(gateway.options);
	gateway.replay = std::make_unique<ReplayStore>(gateway.options);
	gateway.handler = edge::CommandHandler::NewStub(
		grpc::CreateChannel(gateway.options.upstream, grpc::InsecureChannelCredentials()));

	grpc::ServerBuilder builder;

	builder.AddListeningPort(gateway.options.listen, grpc::InsecureServerCredentials(), &port);
	builder.RegisterService(&gateway.service);
	builder.RegisterService(&gateway.health_service);
	gateway.queue = builder.AddCompletionQueue();

	std::unique_ptr<grpc::Server> server = builder.BuildAndStart();

	if (!server || port == 0)
		return 1;
	std::thread loop(serve, &gateway);

	printf("listening 127.0.0.1:%d\n", port);
	fflush(stdout);
	sigwait(&signals, &number);
	server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
	gateway.replay->stop();
	gateway.queue->Shutdown();
	loop.join();
	return 0;
}
