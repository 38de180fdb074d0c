// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// The channels of a server, as a table.
enum ChannelListing {
    /// Where a node lists its channels.
    static let target = "/api/v1/channels"
    /// A channel of a page is a kilobyte; a node has hundreds at most.
    static let bodyBytesMax = 4 << 20

    private static let textBytes = 200
    private static let listedMax = 20

    /// The lines for the list that `document` holds: an array of objects with `name` and perhaps
    /// `description`, `url`, `topics` and `filters`, alone or as the member `channels`. `nil` where
    /// it is none.
    static func lines(_ document: JSONValue, server: ServerURL, style: TerminalStyle) -> [String]? {
        let list = document["channels"] ?? document
        guard case .array(let channels) = list else { return nil }
        guard let first = channels.first else { return ["\(server.text): no channels"] }
        var lines: [String] = []
        for channel in channels {
            guard let name = channel["name"]?.text else { return nil }
            let about = PeerText.display(channel["description"]?.text ?? "", limit: textBytes)
            lines.append(style(.bold, PeerText.display(name)) + (about.isEmpty ? "" : "  \(about)"))
            lines += detail("topics", channel["topics"]?.elements.compactMap(\.text), style)
            let filters = channel["filters"]?.elements.compactMap { $0["parameter"]?.text }
            lines += detail("filters", filters, style)
        }
        let target = first["url"]?.text ?? "/api/v1/sse/\(first["name"]?.text ?? "")"
        let example = server.with(target: PeerText.display(target, limit: textBytes))
        lines.append("\nfollow one: rivulet tail '\(example.text)'")
        return lines
    }

    private static func detail(_ title: String, _ names: [String]?, _ style: TerminalStyle)
        -> [String]
    {
        guard let names, !names.isEmpty else { return [] }
        let shown = Tabulation.list(names.map { PeerText.display($0) }, limit: listedMax)
        return ["    " + style(.dim, "\(title): \(shown)")]
    }
}
