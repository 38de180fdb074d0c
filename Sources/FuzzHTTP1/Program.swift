// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

// Without instrumentation, in any build, the same inputs for the same seed:
//
//     swift run -c release FuzzHTTP1 --seed 7 --iterations 1000000 Tests/Corpora/HTTP1
//
// Guided by coverage (libFuzzer brings its own main). The backtracer is off because it can hang
// while it holds the pipe:
//
//     swift build -c release --scratch-path .build-fuzz --product FuzzHTTP1 \
//         --sanitize=fuzzer -Xswiftc -DLIBFUZZER
//     SWIFT_BACKTRACE=enable=no .build-fuzz/release/FuzzHTTP1 Tests/Corpora/HTTP1

import Glibc

#if LIBFUZZER
    /// Called by libFuzzer on its one thread; `data` is lent for the call.
    @c(LLVMFuzzerTestOneInput)
    package func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        let input = unsafe [UInt8](UnsafeBufferPointer(start: data, count: count))
        if let broken = Invariants.violation(input) { fatalError(broken) }
        return 0
    }
#else
    /// Fuzzes from a corpus with the program's own mutations.
    @main
    struct Program {
        private var seed: UInt64 = 1
        private var first: UInt64 = 0
        private var iterations: UInt64 = 100_000
        private var paths: [String] = []

        static func main() {
            var program = Program()
            guard program.readArguments(), let corpus = program.corpus() else { exit(64) }
            exit(program.run(corpus) ? 0 : 1)
        }

        private mutating func readArguments() -> Bool {
            var arguments = CommandLine.arguments.dropFirst()
            while let argument = arguments.popFirst() {
                guard argument.hasPrefix("--") else {
                    paths.append(argument)
                    continue
                }
                guard let number = arguments.popFirst().flatMap({ UInt64($0) }) else {
                    print("\(argument) wants a number")
                    return false
                }
                switch argument {
                case "--seed": seed = number
                case "--first": first = number
                case "--iterations": iterations = number
                default:
                    print("\(argument) is not one of --seed, --first, --iterations")
                    return false
                }
            }
            return true
        }

        private func corpus() -> [[UInt8]]? {
            var corpus: [[UInt8]] = []
            do throws(Corpus.Unreadable) {
                for path in paths { corpus += try Corpus.read(path).map(\.bytes) }
            } catch {
                print("cannot read \(error.path): error \(error.code)")
                return nil
            }
            guard !corpus.isEmpty else {
                print("usage: FuzzHTTP1 [--seed N] [--first N] [--iterations N] FILE|DIRECTORY…")
                return nil
            }
            return corpus
        }

        /// Each iteration has its own seed, so the one that fails can be run alone.
        private func run(_ corpus: [[UInt8]]) -> Bool {
            print("seed \(seed), iterations \(first)..<\(first &+ iterations)")
            for iteration in 0..<iterations {
                let number = first &+ iteration
                var mutator = Mutator(seed: seed &* 1_000_003 &+ number)
                let input = mutator.input(from: corpus)
                if let broken = Invariants.violation(input) {
                    print("--seed \(seed) --first \(number) --iterations 1: \(broken)")
                    print(input.map { String($0, radix: 16) }.joined(separator: " "))
                    return false
                }
                // So that a crash, which prints nothing of ours, can be found by its number.
                if number % 100_000 == 0 { print("iteration \(number)") }
            }
            return true
        }
    }
#endif
