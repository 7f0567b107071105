import Foundation
import XCTest

@testable import KDNumerics

final class TokenizerGoldenTests: XCTestCase {
    private struct Case: Decodable {
        let name: String
        let max_length: Int
        let bos: Int
        let eos: Int
        let pad: Int
        let ids: [[Int]]
        let removed: [String]
    }

    private struct Cases: Decodable {
        let prompts: [String]
        let tokenizers: [Case]
    }

    func testPromptsHaveTheIdsOfTransformers() throws {
        let cases = try Goldens.read(Cases.self, "text.json")
        for each in cases.tokenizers {
            let tokenizer = try tokenizer(each)
            XCTAssertEqual(each.ids.count, cases.prompts.count)
            var wrong = 0
            for (index, prompt) in cases.prompts.enumerated() where wrong < 5 {
                let tokens = tokenizer.encode(prompt)
                XCTAssertEqual(
                    tokens.ids, each.ids[index], "\(each.name): \(prompt.debugDescription)")
                // Scalar by scalar: strings that look alike are equal to Swift.
                let removed = Array(tokens.removed.unicodeScalars)
                XCTAssertEqual(removed, Array(each.removed[index].unicodeScalars), each.name)
                let same = tokens.ids == each.ids[index]
                wrong += same ? 0 : 1
            }
            Goldens.checked(cases.prompts.count, "prompts of the tokenizer '\(each.name)'")
        }
    }

    func testSpecialTokensThatAreNotThereAreRefused() throws {
        let cases = try Goldens.read(Cases.self, "text.json").tokenizers
        let each = try XCTUnwrap(cases.first { $0.name == "demo" })
        let file = try file(each)
        for (name, ids) in [
            ("bos_token_id", (5000, each.eos, each.pad)),
            ("eos_token_id", (each.bos, 5000, each.pad)),
            ("pad_token_id", (each.bos, each.eos, 5000)),
        ] {
            XCTAssertThrowsError(
                try ClipTokenizer(file: file, maxLength: 77, bos: ids.0, eos: ids.1, pad: ids.2)
            ) { error in
                XCTAssertEqual(
                    error as? TokenizerError,
                    .missingToken(file: file.path, name: name, id: 5000))
                XCTAssertTrue(error.localizedDescription.contains("no token 5000, the \(name)"))
            }
        }
    }

    func testALongPromptTakesNoLongerThanItsLength() throws {
        let cases = try Goldens.read(Cases.self, "text.json").tokenizers
        let tokenizer = try tokenizer(try XCTUnwrap(cases.first { $0.name == "clip" }))
        for word in ["ab", "z", "🐈", "<|endoftext|", "'"] {
            let text = String(repeating: word, count: 20000)
            let start = Date()
            XCTAssertEqual(tokenizer.encode(text).ids.count, 77)
            // Quadratic work would take minutes.
            XCTAssertLessThan(Date().timeIntervalSince(start), 20)
        }
    }

    func testScalarsAreWhatTheTokenizersLibraryTakesThemFor() throws {
        struct Scalars: Decodable {
            let kinds: [Run]
            let lower: [[UInt32]]
            let composed: [[UInt32]]
        }
        struct Run: Decodable {
            let first: UInt32
            let last: UInt32
            let kind: String

            init(from decoder: any Decoder) throws {
                var values = try decoder.unkeyedContainer()
                first = try values.decode(UInt32.self)
                last = try values.decode(UInt32.self)
                kind = try values.decode(String.self)
            }
        }
        let known = try Goldens.read(Scalars.self, "unicode.json")
        let lower = Dictionary(uniqueKeysWithValues: known.lower.map { ($0[0], $0.dropFirst()) })
        let composed = Dictionary(
            uniqueKeysWithValues: known.composed.map { ($0[0], $0.dropFirst()) })
        var (count, newer) = (0, 0)
        for run in known.kinds {
            for scalar in (run.first...run.last).lazy.compactMap(Unicode.Scalar.init) {
                // What the system does not know yet, it takes for no letter.
                if scalar.properties.generalCategory == .unassigned {
                    newer += run.kind == "O" ? 0 : 1
                    continue
                }
                count += 1
                XCTAssertEqual(
                    letter(scalar.kind), run.kind, "U+\(String(scalar.value, radix: 16))")
                // Alone, it is composed and then made lower case as by the library.
                if run.kind != "S" {
                    let one = composed[scalar.value] ?? [scalar.value]
                    let both = one.flatMap { lower[$0] ?? [$0] }
                    XCTAssertEqual(ClipText.normalized([scalar]).map(\.value), both)
                }
            }
        }
        XCTAssertGreaterThan(count, 280_000)
        Goldens.checked(count, "scalars of Unicode; \(newer) are newer than this system")
    }

    private func letter(_ kind: Unicode.Scalar.Kind) -> String {
        switch kind {
        case .letter: "L"
        case .number: "N"
        case .space: "S"
        case .other: "O"
        }
    }

    private func file(_ each: Case) throws -> URL {
        try Goldens.folder().appendingPathComponent("tokenizers/\(each.name).json")
    }

    private func tokenizer(_ each: Case) throws -> ClipTokenizer {
        try ClipTokenizer(
            file: file(each), maxLength: each.max_length, bos: each.bos, eos: each.eos,
            pad: each.pad)
    }
}
