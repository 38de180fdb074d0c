// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import HTTP1Wire
import HTTPServer
import Observability
import PosixIO

/// What a node can be told to do over HTTP.
///
/// View: node. Threads: any loop that serves.
enum NodeAdmin {
    static let drainPath = "/admin/drain"

    /// Answers a request that is one of these. False where it is none.
    static func answers(
        _ request: HTTPRequest, _ exchange: HTTPExchange, _ context: NodeContext
    ) -> Bool {
        guard request.head.path == drainPath else { return false }
        guard request.head.method == .post else {
            exchange.respond(
                ProblemDetails(
                    status: 405, title: "Method not allowed",
                    detail: "A drain is begun with POST; /cluster shows how far it is.",
                    given: request.head.method.description, accepted: ["POST"]),
                headers: [("Allow", "POST")])
            return true
        }
        if let problem = context.admin.refusal(request.head.headers, peer: request.peer) {
            context.log.warning(
                "a request to drain was refused", LogField("peer", request.peer),
                LogField("reason", problem.detail ?? problem.title))
            let headers = problem.status == 401 ? [("WWW-Authenticate", "Bearer")] : []
            exchange.respond(problem, headers: headers)
            return true
        }
        guard let stop = context.stopRequest.withLock({ $0 }) else {
            exchange.respond(
                ProblemDetails(
                    status: 501, detail: "The program that runs this node cannot be told to stop."))
            return true
        }
        let begins = context.status.beginDraining()
        if begins {
            context.log.notice("told to drain", LogField("peer", request.peer))
            stop()
        }
        var text = JSONText()
        text.object { text in
            text.field("node", context.status.nodeID)
            text.field("state", "draining")
            text.field("began_now", begins)
            text.field("progress", "/cluster")
        }
        exchange.respond(
            status: 202,
            headers: [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
            body: text.bytes + [UInt8(ascii: "\n")])
        return true
    }

    /// The status that a page is answered with. HAProxy takes a server whose check says 404 out of
    /// the balancing and leaves its connections alone (`http-check disable-on-404`), where it cuts
    /// them for a 503; so it may ask for that.
    static func status(_ status: Int, of head: HTTP1RequestHead, _ context: NodeContext) -> Int {
        guard status == 503, head.path == "/readyz", head.query == "draining=404",
            context.status.phase == .draining
        else { return status }
        return 404
    }
}
