import KDNumerics
import XCTest

final class TensorTests: XCTestCase {
    private let counting = Tensor(shape: [2, 3, 4], values: (0..<24).map(Float.init))

    func testRows() throws {
        let last = try counting.row(1)
        XCTAssertEqual(last.shape, [1, 3, 4])
        XCTAssertEqual(last.values, (12..<24).map(Float.init))
        XCTAssertEqual(try counting.rows(0..<2), counting)
        XCTAssertEqual(try counting.rows(1..<1).shape, [0, 3, 4])
        XCTAssertEqual(Tensor(shape: [], values: [5]).rows, 1)
    }

    func testRowsThatAreNotThereAreRefused() {
        for index in [-1, 2, Int.max] {
            XCTAssertThrowsError(try counting.row(index)) { XCTAssertTrue($0 is TensorError) }
        }
        XCTAssertThrowsError(try counting.rows(1..<3)) { error in
            XCTAssertEqual(
                error.localizedDescription,
                "A tensor of the shape [2, 3, 4] has no rows 1 to 2; export the model again.")
        }
    }

    func testRepeatedRowsLieSideBySide() {
        let pair = Tensor(shape: [2, 1], values: [1, 2])
        XCTAssertEqual(
            pair.repeatingRows(3), Tensor(shape: [6, 1], values: [1, 1, 1, 2, 2, 2]))
        XCTAssertEqual(pair.repeatingRows(1), pair)
        XCTAssertEqual(pair.repeatingRows(0).shape, [0, 1])
    }

    func testJoiningUndoesSplitting() throws {
        for (axis, parts) in [(0, 2), (1, 3), (2, 2), (-1, 4), (-3, 1)] {
            let pieces = try counting.split(parts, axis: axis)
            XCTAssertEqual(pieces.count, parts)
            XCTAssertEqual(try Tensor.concatenated(pieces, axis: axis), counting)
        }
        let halves = try counting.split(2, axis: -1)
        XCTAssertEqual(halves[1].shape, [2, 3, 2])
        XCTAssertEqual(halves[1].values.prefix(4), [2, 3, 6, 7])
    }

    func testJoiningTakesSizesThatDiffer() throws {
        let joined = try Tensor.concatenated(
            [
                Tensor(shape: [2, 1], values: [1, 2]),
                Tensor(shape: [2, 2], values: [3, 4, 5, 6]),
            ],
            axis: 1)
        XCTAssertEqual(joined, Tensor(shape: [2, 3], values: [1, 3, 4, 2, 5, 6]))
    }

    func testWhatDoesNotFitIsRefused() {
        let other = Tensor(repeating: 0, shape: [2, 4, 4])
        let scalar = Tensor(shape: [], values: [1])
        let attempts: [(TensorError, () throws -> Any)] = [
            (.empty, { try Tensor.concatenated([]) }),
            (.shapes([2, 3, 4], [2, 4, 4]), { try Tensor.concatenated([self.counting, other]) }),
            (.shapes([2, 3, 4], []), { try Tensor.concatenated([self.counting, scalar]) }),
            (.axis(0, shape: []), { try Tensor.concatenated([scalar]) }),
            (.axis(3, shape: [2, 3, 4]), { try self.counting.split(1, axis: 3) }),
            (.axis(-4, shape: [2, 3, 4]), { try self.counting.split(1, axis: -4) }),
            (.parts(2, axis: 1, shape: [2, 3, 4]), { try self.counting.split(2, axis: 1) }),
            (.parts(0, axis: 0, shape: [2, 3, 4]), { try self.counting.split(0) }),
            (.shapes([2, 3, 4], [2, 4, 4]), { try self.counting.adding(other) }),
            (.shapes([2, 3, 4], []), { try self.counting.multiplied(by: scalar) }),
        ]
        for (expected, attempt) in attempts {
            XCTAssertThrowsError(try attempt()) { error in
                XCTAssertEqual(error as? TensorError, expected)
                XCTAssertFalse(error.localizedDescription.contains("TensorError"))
            }
        }
    }

    func testArithmetic() throws {
        let (one, two) = (Tensor(shape: [2], values: [1, 3]), Tensor(shape: [2], values: [4, 8]))
        XCTAssertEqual(try one.adding(two).values, [5, 11])
        XCTAssertEqual(try one.subtracting(two).values, [-3, -5])
        XCTAssertEqual(try one.multiplied(by: two).values, [4, 24])
        XCTAssertEqual((2 * one).values, [2, 6])
        XCTAssertEqual((two / 4).values, [1, 2])
        XCTAssertEqual((two + 1).values, [5, 9])
        XCTAssertEqual((two - 1).values, [3, 7])
        XCTAssertEqual(try two.guided(by: 2, from: one).values, [7, 13])
    }

    func testGuidanceRoundsEveryStep() throws {
        // A fused multiplication and addition would give another last bit for many of these.
        var noise = TorchNoise(seed: 4)
        let (negative, positive) = (noise.normal([999]), noise.normal([999]))
        let guided = try positive.guided(by: 7.3, from: negative)
        for (place, value) in guided.values.enumerated() {
            let difference = Float(
                Double(positive.values[place]) - Double(negative.values[place]))
            let product = Float(Double(Float(7.3)) * Double(difference))
            XCTAssertEqual(value, Float(Double(negative.values[place]) + Double(product)))
        }
    }

    func testFiniteness() {
        XCTAssertTrue(counting.isFinite)
        XCTAssertTrue(Tensor(shape: [0], values: []).isFinite)
        for value in [Float.nan, .infinity, -.infinity] {
            XCTAssertFalse(Tensor(shape: [2], values: [0, value]).isFinite)
        }
    }
}
