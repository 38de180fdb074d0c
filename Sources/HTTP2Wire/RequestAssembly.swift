// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import PosixIO

/// A request of which the end has not come.
final class RequestAssembly {
    /// When it has taken too long.
    var deadline: MonotonicTime
    /// The checked head, once its block has ended.
    private(set) var head: HTTP1RequestHead?
    private(set) var body: [UInt8] = []

    private let limits: HTTP1Limits
    private var method = ""
    private var path = ""
    private var authority: String?
    private var host: String?
    private var cookie: [UInt8] = []
    private var headers = HTTPHeaders()
    private var headerBytes = 0
    private var headerCount = 0
    /// Why the head is refused; its fields are no longer kept then.
    private var refusal: HTTP1Error?

    init(limits: HTTP1Limits, deadline: MonotonicTime) {
        self.limits = limits
        self.deadline = deadline
    }

    var isInHead: Bool { head == nil }

    /// Bytes that are kept.
    var heldBytes: Int { headerBytes + body.count }

    /// Takes one field of the head, whose syntax the library has checked.
    func append(name: borrowing Span<UInt8>, value: borrowing Span<UInt8>) {
        guard refusal == nil else { return }
        do throws(HTTP1Error) {
            if name.count > 0, name[0] == UInt8(ascii: ":") {
                try takePseudo(name, value)
            } else {
                try takeField(name, value)
            }
        } catch { refusal = error }
    }

    private func takePseudo(
        _ name: borrowing Span<UInt8>, _ value: borrowing Span<UInt8>
    ) throws(HTTP1Error) {
        switch name.text(in: 0..<name.count) {
        case ":method":
            guard value.count <= HTTP1Limits.methodBytes else {
                throw HTTP1Error(
                    .methodTooLong, "a method has at most \(HTTP1Limits.methodBytes) letters",
                    parameter: ":method", given: PeerText.display(value))
            }
            method = value.text(in: 0..<value.count)
        case ":path":
            guard value.count <= limits.requestLineBytes else {
                throw HTTP1Error(
                    .targetTooLong, "a target has at most \(limits.requestLineBytes) bytes",
                    parameter: ":path")
            }
            path = value.text(in: 0..<value.count)
        case ":authority":
            try count(value.count)
            authority = value.text(in: 0..<value.count)
        default: break  // :scheme says nothing that the port does not.
        }
    }

    private func takeField(
        _ name: borrowing Span<UInt8>, _ value: borrowing Span<UInt8>
    ) throws(HTTP1Error) {
        headerCount += 1
        guard headerCount <= limits.headerCount else {
            throw HTTP1Error(
                .tooManyHeaders, "a request has at most \(limits.headerCount) header fields")
        }
        // A line of HTTP/1.1 has a colon, a blank and its end beside them.
        try count(name.count + value.count + 4)
        switch name.count {
        case 4 where name.text(in: 0..<4) == "host":
            guard host == nil else {
                throw HTTP1Error(.hostRepeated, "a request has one Host", parameter: "Host")
            }
            host = value.text(in: 0..<value.count)
        case 6 where name.text(in: 0..<6) == "cookie":
            // Sent in crumbs so that they compress; one field for everybody else
            // (RFC 9113, section 8.2.3).
            if !cookie.isEmpty { cookie += [UInt8(ascii: ";"), UInt8(ascii: " ")] }
            for index in value.indices { cookie.append(value[index]) }
        default: try headers.append(received: name, value: value)
        }
    }

    private func count(_ bytes: Int) throws(HTTP1Error) {
        headerBytes += bytes
        guard headerBytes <= limits.headerBytes else {
            throw HTTP1Error(
                .headersTooLarge, "header fields have at most \(limits.headerBytes) bytes together")
        }
    }

    /// The header block has ended: makes and checks the head.
    func endHead() throws(HTTP1Error) -> HTTP1RequestHead {
        if let refusal { throw refusal }
        if let authority, let host, authority != host {
            throw HTTP1Error(
                .hostRepeated, "Host, where it is sent, is the same as :authority",
                parameter: "Host", given: PeerText.display(host))
        }
        if let named = authority ?? host {
            try append("host", Array(named.utf8))
        }
        if !cookie.isEmpty {
            try append("cookie", cookie)
            cookie = []
        }
        let head = try HTTP1RequestHead(
            method: HTTPMethod(method), target: path, headers: headers, limits: limits)
        self.head = head
        headers = HTTPHeaders()
        return head
    }

    private func append(_ name: String, _ value: [UInt8]) throws(HTTP1Error) {
        let name = Array(name.utf8)
        try headers.append(received: name.span, value: value.span)
    }

    /// Takes bytes of the body.
    func append(body more: UnsafeRawBufferPointer) throws(HTTP1Error) {
        guard body.count + more.count <= limits.bodyBytes else {
            throw HTTP1Error(.bodyTooLarge, "a body has at most \(limits.bodyBytes) bytes")
        }
        unsafe body.append(contentsOf: more)
    }
}
