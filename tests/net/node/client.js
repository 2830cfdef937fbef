// A gRPC client by @grpc/grpc-js. Speaks lines with tests/net/test_clients.py: see there.
"use strict";

const grpc = require(process.env.GRPC_JS);
const readline = require("readline");

const [address, path, mode, deadlineMs, keepaliveMs] = process.argv.slice(2);
const options = {
	"grpc.max_receive_message_length": 64 << 20,
	"grpc.max_send_message_length": 64 << 20,
	"grpc.use_local_subchannel_pool": 1,
	"grpc.enable_http_proxy": 0,
};
if (Number(keepaliveMs) > 0) {
	options["grpc.keepalive_time_ms"] = Number(keepaliveMs);
	options["grpc.keepalive_timeout_ms"] = 5000;
	options["grpc.keepalive_permit_without_calls"] = 1;
}
const client = new grpc.Client(address, grpc.credentials.createInsecure(), options);
const pass = (bytes) => bytes;

function say(...words) {
	process.stdout.write(words.join(" ") + "\n");
}

// Not process.exit: what was said may still be on its way.
function finish() {
	client.close();
	process.stdin.destroy();
}

function callOptions() {
	return Number(deadlineMs) > 0 ? { deadline: Date.now() + Number(deadlineMs) } : {};
}

function metadata() {
	const data = new grpc.Metadata();
	data.set("x-request-id", "from-node");
	data.set("x-many", "1");
	data.add("x-many", "2");
	data.set("x-bytes-bin", Buffer.from([0, 1, 254, 255]));
	return data;
}

function unary(requests) {
	let left = requests.length;
	requests.forEach((request, i) => {
		client.makeUnaryRequest(path, pass, pass, request, metadata(), callOptions(), (error, answer) => {
			say("result", i, error ? error.code : 0, answer ? answer.toString("hex") : "-",
				error ? error.details : "");
			if (--left === 0)
				finish();
		});
	});
}

function stream(request) {
	const call = client.makeServerStreamRequest(path, pass, pass, request, metadata(), callOptions());
	call.on("data", (event) => say("event", event.toString("hex")));
	call.on("error", () => {});
	call.on("status", (status) => {
		say("end", status.code, status.details);
		finish();
	});
	return call;
}

const requests = [];
let call = null;
readline.createInterface({ input: process.stdin }).on("line", (line) => {
	if (line === "cancel") {
		call.cancel();
	} else if (line !== "go") {
		requests.push(Buffer.from(line, "hex"));
	} else if (mode === "unary") {
		unary(requests);
	} else {
		call = stream(requests[0]);
	}
});
