import Foundation
import KDNumerics
import XCTest

final class SamplerTests: XCTestCase {
    /// Two steps of a stochastic sampler with a scaled model input.
    static let json = """
        {"timesteps": [999, 499.5], "initial": [0.5, 0.25, 0.125],
         "outputs": [[], [-2.0], [1.0, 3.0]], "noise": [[], [0.5, 0.25], [1.0, 0.0, 2.0]],
         "draws": [2, 1], "scale": [0.5, 0.25, 1]}
        """

    static func table(_ json: String = json) throws -> SamplerTable {
        try JSONDecoder().decode(SamplerTable.self, from: Data(json.utf8))
    }

    static func sampler(_ steps: [Int]) throws -> Sampler {
        let tables = steps.map { "\"\($0)\": \(json)" }.joined(separator: ",")
        let text = """
            {"name": "own", "scheduler": "FakeScheduler", "config": {"a": [null, "-inf"]},
             "tables": {\(tables)}}
            """
        return try JSONDecoder().decode(Sampler.self, from: Data(text.utf8))
    }

    func testASamplerKnowsItsSteps() throws {
        let sampler = try Self.sampler([8, 1, 2, 4, 3])
        XCTAssertEqual(sampler.steps, [1, 2, 3, 4, 8])
        XCTAssertEqual([sampler.name, sampler.scheduler], ["own", "FakeScheduler"])
        XCTAssertEqual(try sampler.table(steps: 3).timesteps, [999, 499.5])
        XCTAssertThrowsError(try sampler.table(steps: 5)) { error in
            XCTAssertEqual(
                error.localizedDescription,
                "The bundle holds no 5-step table for the scheduler 'own'; it has 1 to 4, 8: "
                    + "choose one of these, or export again with a larger --max-steps.")
        }
        XCTAssertThrowsError(
            try Self.sampler(Array(stride(from: 1, to: 40, by: 2))).table(steps: 2)
        ) {
            XCTAssertTrue(
                $0.localizedDescription.contains("1, 3, 5, 7, 9, 11, 13, 15 and 12 more:"))
        }
    }

    func testTablesThatDoNotFitAreRefused() {
        let changes = [
            ("[999, 499.5]", "[999]"), ("[999, 499.5]", "[]"),
            ("[0.5, 0.25, 0.125]", "[0.5, 0.25]"), ("[[], [-2.0], [1.0, 3.0]]", "[[], [-2.0]]"),
            ("[-2.0]", "[]"), ("[1.0, 3.0]", "[1.0]"), ("[1.0, 0.0, 2.0]", "[1.0]"),
            ("\"draws\": [2, 1]", "\"draws\": [1, 2]"),
            ("\"draws\": [2, 1]", "\"draws\": [-1, 4]"),
            ("\"draws\": [2, 1]", "\"draws\": [2]"),
            ("\"draws\": [2, 1]", "\"draws\": [9223372036854775807, 1]"),
            ("[0.5, 0.25, 1]", "[0.5, 0.25, 1, 1]"),
        ]
        for (old, new) in changes {
            let json = Self.json.replacingOccurrences(of: old, with: new)
            XCTAssertNotEqual(json, Self.json)
            XCTAssertThrowsError(try Self.table(json)) { error in
                guard case .malformed = error as? SamplerError else {
                    return XCTFail("\(new): \(error)")
                }
                XCTAssertTrue(error.localizedDescription.hasSuffix("; export the model again."))
            }
        }
        XCTAssertThrowsError(try Self.table("{}")) { XCTAssertTrue($0 is DecodingError) }
    }

    func testARowNeedsWhatComesBeforeIt() throws {
        let table = try Self.table()
        let unit = Tensor(repeating: 1, shape: [2])
        for (row, outputs, noises) in [(1, 0, 2), (1, 1, 1), (2, 2, 2), (3, 3, 3), (-1, 0, 0)] {
            XCTAssertThrowsError(
                try table.row(
                    row, initial: unit, outputs: Array(repeating: unit, count: outputs),
                    noises: Array(repeating: unit, count: noises))
            ) { XCTAssertEqual($0 as? SamplerError, .early(row: row)) }
        }
        let row = try table.row(
            2, initial: unit, outputs: [unit, unit], noises: [unit, unit, unit])
        XCTAssertEqual(row.values, [7.125, 7.125])
        // What is weighed with zero is not looked at, as it may be infinite.
        let infinite = Tensor(repeating: .infinity, shape: [2])
        let same = try table.row(
            2, initial: unit, outputs: [unit, unit], noises: [unit, infinite, unit])
        XCTAssertEqual(same, row)
        XCTAssertThrowsError(
            try table.row(
                1, initial: unit, outputs: [Tensor(repeating: 1, shape: [3])], noises: [unit, unit])
        ) { XCTAssertEqual($0 as? SamplerError, .shape([3], latents: [2])) }
    }
}
