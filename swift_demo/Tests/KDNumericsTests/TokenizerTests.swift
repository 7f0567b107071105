import Foundation
import XCTest

@testable import KDNumerics

final class TokenizerTests: MadeUpTokenizerTestCase {
    func testMergesComeInTheirOrder() throws {
        let tokenizer = try load(stored())
        let symbol = { (text: Unicode.Scalar) in Int(text.value) }
        XCTAssertEqual(tokenizer.tokens("abc ABC"), [513, 513])
        XCTAssertEqual(tokenizer.tokens("ab"), [symbol("a"), symbol("b") + 256])
        XCTAssertEqual(tokenizer.tokens("abab"), [512, symbol("a"), symbol("b") + 256])
        XCTAssertEqual(tokenizer.tokens("ccccc"), [514, 514, symbol("c") + 256])
        XCTAssertEqual(tokenizer.tokens(""), [])
    }

    func testPromptsAreFramedPaddedAndCut() throws {
        let tokenizer = try load(stored(), maxLength: 5)
        XCTAssertEqual(
            tokenizer.encode("abc"), Tokens(ids: [600, 513, 601, 601, 601], removed: ""))
        XCTAssertEqual(
            tokenizer.encode("abc abc abc"), Tokens(ids: [600, 513, 513, 513, 601], removed: ""))
        XCTAssertEqual(tokenizer.encode("abc abc abc, ABC  é!").removed, ", abc é !")
        XCTAssertEqual(try load(stored(), maxLength: 2).encode("abc").removed, "abc")
        XCTAssertEqual(try load(stored(), maxLength: 2).encode("abc").ids, [600, 601])
    }

    func testSpecialTokensInTheText() throws {
        let tokenizer = try load(stored())
        // One is looked for before letters are made lower case, the other one after.
        XCTAssertEqual(tokenizer.tokens("<|STARTOFTEXT|>abc<|endoftext|>"), [600, 513, 601])
        XCTAssertGreaterThan(tokenizer.tokens("<|ENDOFTEXT|>").count, 1)
    }

    func testOlderFilesAreRead() throws {
        let old = try load(stored("model/merges", ["a b", "ab c</w>", "c c"]))
        XCTAssertEqual(old.tokens("abc"), [513])
        let newer = try load(
            stored("pre_tokenizer/pretokenizers/0/pattern/Regex", #"<\|endoftext\||"# + Self.words))
        XCTAssertEqual(newer.tokens("abc"), [513])
    }

    func testAHeapSorts() {
        var (heap, numbers) = (Heap<UInt32>(), [UInt32]())
        var random = MersenneTwister(seed: 2)
        for _ in 0..<500 {
            numbers.append(random.word() % 100)
            heap.push(numbers[numbers.count - 1])
        }
        var sorted: [UInt32] = []
        while let next = heap.pop() { sorted.append(next) }
        XCTAssertEqual(sorted, numbers.sorted())
    }
}
