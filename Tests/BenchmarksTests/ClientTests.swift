// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@testable import Benchmarks

@Suite("Clients of the benchmarks")
struct ClientTests {
    @Test("frames are found whole, one after the other, and an unfinished one is left")
    func frames() throws {
        let bytes: [UInt8] =
            [0, 0, 2, 0, 1, 0x80, 0, 0, 3, 7, 8] + [0, 0, 0, 4, 0, 0, 0, 0, 0] + [0, 0, 9, 0]
        var found: [HTTP2Frames.Frame] = []
        var start = 0
        while true {
            let frame = unsafe bytes.withUnsafeBytes {
                unsafe HTTP2Frames.first(in: UnsafeRawBufferPointer(rebasing: $0[start...]))
            }
            guard let frame else { break }
            found.append(frame)
            start += frame.payload.upperBound
        }
        #expect(found.map(\.kind) == [HTTP2Frames.Kind.data, HTTP2Frames.Kind.settings])
        #expect(found.map(\.stream) == [3, 0])
        #expect(found[0].payload.count == 2)
        #expect(found[0].endsStream)
        #expect(bytes.count - start == 4)
    }

    @Test(
        "an answer is good when its block begins with :status 200, after changes of the table",
        arguments: [
            ([0x88], true), ([0x20, 0x88, 0x5f], true), ([0x3f, 0x88], false), ([0x8d], false),
            ([], false), ([0x20], false),
        ] as [([UInt8], Bool)])
    func status(block: [UInt8], isGood: Bool) {
        let found = unsafe block.withUnsafeBytes { unsafe HTTP2Frames.isOK($0) }
        #expect(found == isGood)
    }

    @Test("the opening asks for each stream once")
    func opening() {
        let bytes = HTTP2Frames.opening(path: "/x", authority: "127.0.0.1:1", streams: 3)
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8.count
        var streams: [UInt32] = []
        var start = preface
        while start < bytes.count {
            let frame = unsafe bytes.withUnsafeBytes {
                unsafe HTTP2Frames.first(in: UnsafeRawBufferPointer(rebasing: $0[start...]))
            }
            guard let frame else { break }
            if frame.kind == HTTP2Frames.Kind.headers { streams.append(frame.stream) }
            start += frame.payload.upperBound
        }
        #expect(start == bytes.count)
        #expect(streams == [1, 3, 5])
    }

    @Test("what is no gzip or Zstandard is refused, and other forms need no decoding")
    func wrongCoding() {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 8)
        defer { unsafe room.deallocate() }
        for form in [ClientForm.gzip, .zstd] {
            let decoder = StreamDecompressor(form)
            #expect(decoder != nil)
            let bytes = Array("no coding at all".utf8)
            let isGood = unsafe bytes.withUnsafeBytes {
                unsafe decoder?.decode($0, in: room) { _ in }
            }
            #expect(isGood == false)
        }
        for form in [ClientForm.plain, .tls, .http2] { #expect(StreamDecompressor(form) == nil) }
    }

    @Test("a finding holds at its bound and not beyond, and what is not measured holds in no way")
    func findings() {
        #expect(Finding.atLeast(0.95, Spread([0.95]), "a").holds == true)
        #expect(Finding.atLeast(0.95, Spread([0.949]), "a").holds == false)
        #expect(Finding.atMost(1.15, Spread([1, 1.15, 9]), "a").holds == true)
        #expect(Finding.atMost(1.15, Spread([1.16]), "a").holds == false)
        #expect(Finding.atMost(1.15, Spread([]), "a").holds == nil)
        let table = Finding.table([.atLeast(1, Spread([]), "line"), .atLeast(1, Spread([2]), "b")])
        #expect(table.contains("not measured"))
        #expect(table.contains("yes"))
    }
}
