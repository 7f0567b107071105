import Foundation
import XCTest

@testable import KDNumerics

final class TokenizerRefusalTests: MadeUpTokenizerTestCase {
    func testOtherTokenizersAreRefused() throws {
        let split = "pre_tokenizer/pretokenizers/0"
        let cases: [(String, Any?, String)] = [
            ("normalizer", nil, "normalizer"),
            ("normalizer/normalizers/0/type", "NFKC", "normalizer"),
            ("normalizer/normalizers/1/pattern/Regex", #"\s"#, "normalizer"),
            ("normalizer/normalizers/1/content", "_", "normalizer"),
            ("normalizer/normalizers/2/type", "StripAccents", "normalizer"),
            ("pre_tokenizer", nil, "pre-tokenizer"),
            ("\(split)/behavior", "Isolated", "pre-tokenizer"),
            ("\(split)/invert", false, "pre-tokenizer"),
            ("\(split)/pattern/Regex", #"\p{L}+"#, "pre-tokenizer"),
            ("\(split)/pattern/Regex", "a+|" + Self.words, "pre-tokenizer"),
            ("\(split)/pattern/Regex", #"\d|"# + Self.words, "pre-tokenizer"),
            ("\(split)/pattern/Regex", "x" + Self.words, "pre-tokenizer"),
            ("pre_tokenizer/pretokenizers/1/add_prefix_space", true, "pre-tokenizer"),
            ("pre_tokenizer/pretokenizers/1/use_regex", false, "pre-tokenizer"),
            ("decoder/type", "WordPiece", "decoder"),
            ("model/type", "Unigram", "no byte pair encoding"),
            ("model/end_of_word_suffix", "@@", "do not end with"),
            ("model/continuing_subword_prefix", "##", "setting that CLIP's has not"),
            ("model/dropout", 0.1, "setting that CLIP's has not"),
            ("model/byte_fallback", true, "setting that CLIP's has not"),
            ("model/ignore_merges", true, "setting that CLIP's has not"),
            ("added_tokens/0/lstrip", true, "takes the space around it"),
            ("added_tokens/1/single_word", true, "takes the space around it"),
        ]
        for (path, new, part) in cases {
            XCTAssertThrowsError(try load(stored(path, new)), path) { error in
                guard case .unsupported(_, let problem) = error as? TokenizerError else {
                    return XCTFail("\(path): \(error)")
                }
                XCTAssertTrue(problem.contains(part), "\(path): \(problem)")
            }
        }
    }

    func testBrokenFilesAreRefused() throws {
        let broken: [(String, String)] = [
            ("{", "no valid JSON"), ("{}", "it lacks 'added_tokens'"),
            (#"{"added_tokens": 1}"#, "'added_tokens' has another type"),
        ]
        for (text, reason) in broken {
            let file = try write(Data(text.utf8))
            XCTAssertThrowsError(
                try ClipTokenizer(file: file, maxLength: 8, bos: 0, eos: 1, pad: 1)
            ) {
                XCTAssertTrue($0 is TokenizerError)
                XCTAssertTrue($0.localizedDescription.contains(reason), $0.localizedDescription)
            }
        }
        for (path, new) in [
            ("model/merges", [["a", "b", "c"]] as Any), ("model/merges", [["b", "a"]]),
            ("model/merges", ["ab"]), ("model/unk_token", "nothing"), ("model/vocab", ["a": -1]),
        ] {
            XCTAssertThrowsError(try load(stored(path, new)), path) { error in
                guard case .unreadable = error as? TokenizerError else {
                    return XCTFail("\(path): \(error)")
                }
            }
        }
        let missing = URL(fileURLWithPath: "/nowhere/tokenizer.json")
        XCTAssertThrowsError(try ClipTokenizer(file: missing, maxLength: 8, bos: 0, eos: 1, pad: 1))
        {
            XCTAssertTrue($0.localizedDescription.hasPrefix("'/nowhere/tokenizer.json' is no"))
        }
        XCTAssertThrowsError(try load(stored(), maxLength: 1)) {
            XCTAssertEqual($0 as? TokenizerError, .length(1))
        }
    }
}
