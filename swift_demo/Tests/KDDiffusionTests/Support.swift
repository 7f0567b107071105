import KDNumerics
import XCTest

@testable import KDDiffusion

/// What a generation reported.
struct Outcome {
    let plan: Plan
    let steps: [StepReport]
    let pictures: [Picture]
}

extension DiffusionPipeline {
    /// Draws to the end.
    func outcome(of request: Request) async throws -> Outcome {
        var (plan, steps, pictures): (Plan?, [StepReport], [Picture]) = (nil, [], [])
        for try await event in generate(request) {
            switch event {
            case .started(let started): plan = started
            case .step(let report): steps.append(report)
            case .finished(let drawn, _): pictures = drawn
            }
        }
        try Task.checkCancellation()
        return Outcome(plan: try XCTUnwrap(plan), steps: steps, pictures: pictures)
    }
}

extension XCTestCase {
    /// Checks that something throws an error; the error must describe itself in a sentence.
    func expect<Failure: Error & Equatable>(
        _ expected: Failure, file: StaticString = #filePath, line: UInt = #line,
        _ body: () throws -> Void
    ) {
        XCTAssertThrowsError(try body(), file: file, line: line) { error in
            XCTAssertEqual(error as? Failure, expected, "\(error)", file: file, line: line)
            let words = error.localizedDescription
            XCTAssertTrue(words.hasSuffix(".") && words.count > 20, words, file: file, line: line)
        }
    }

    /// The same for asynchronous work.
    func expect<Failure: Error & Equatable>(
        _ expected: Failure, file: StaticString = #filePath, line: UInt = #line,
        _ body: () async throws -> Void
    ) async {
        do {
            try await body()
            XCTFail("Nothing was thrown.", file: file, line: line)
        } catch {
            XCTAssertEqual(error as? Failure, expected, "\(error)", file: file, line: line)
        }
    }
}

/// A picture of one colour.
func plain(_ width: Int, _ height: Int, _ colour: [UInt8] = [200, 100, 50]) throws -> Picture {
    try Picture(
        width: width, height: height,
        pixels: (0..<(width * height)).flatMap { _ in colour })
}
