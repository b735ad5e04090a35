"""A collector of traces: what an exporter sends it over HTTP is decoded by OpenTelemetry's own definitions."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

WAIT_SECONDS = 60


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


class Span:
    def __init__(self, span, resource):
        self.name, self.kind, self.resource = span.name, span.kind, resource
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.state, self.start, self.end = span.trace_state, span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes, self.failed = attributes(span.attributes), span.status.code == 2
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]

    def __repr__(self):
        return f"{self.name} {self.trace[:6]}/{self.id[:6]} in {self.parent[:6]} {self.attributes}"


class Collector:
    """`status` is what it answers; while it `hangs` it takes everything and answers nothing."""

    def __init__(self, status=200, hangs=False):
        self.spans, self.requests, self.status = [], 0, status
        self.go_on = threading.Event()
        if not hangs:
            self.go_on.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, self.headers["content-type"], body)
                collector.go_on.wait(WAIT_SECONDS)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path, content_type, body):
        assert (path, content_type) == ("/v1/traces", "application/x-protobuf"), (path, content_type)
        request = ExportTraceServiceRequest.FromString(body)
        spans = [
            Span(span, attributes(resource.resource.attributes))
            for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        self.requests += 1
        self.spans += spans

    def until(self, enough):
        """All spans, once there are enough of them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not enough(self.spans):
            assert time.monotonic() < deadline, f"these did not do: {self.spans}"
            time.sleep(0.02)
        return list(self.spans)

    def named(self, name, count=1):
        """The first spans of this name, in the order of their beginning."""
        spans = self.until(lambda spans: sum(span.name == name for span in spans) >= count)
        return sorted((span for span in spans if span.name == name), key=lambda span: span.start)

    def stages(self, span):
        return sorted((other for other in self.spans if other.parent == span.id), key=lambda stage: stage.start)

    def close(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
