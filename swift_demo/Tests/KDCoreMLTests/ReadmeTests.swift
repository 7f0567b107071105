import Foundation
import KDDiffusion
import XCTest

final class ReadmeTests: XCTestCase {
    func testTheExampleIsTheOneOfTheReadme() throws {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        let example = try String(
            contentsOf: tests.appendingPathComponent("ReadmeExample.swift"), encoding: .utf8)
        let readme = try String(
            contentsOf: tests.appendingPathComponent("../../README.md"), encoding: .utf8)
        XCTAssertTrue(
            readme.contains("```swift\n\(example)```"),
            "The example in README.md differs from ReadmeExample.swift; copy it there.")
    }

    func testTheExampleRefusesWhatIsNoBundle() async {
        do {
            _ = try await drawVase(with: FileManager.default.temporaryDirectory)
            XCTFail("It drew.")
        } catch {
            guard case KDError.notABundle = error else { return XCTFail("\(error)") }
        }
    }
}
