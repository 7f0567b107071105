import XCTest

@testable import KDCoreML

final class StridedLayoutTests: XCTestCase {
    func testVisitsDenseArraysAtOnce() throws {
        XCTAssertEqual(try runs([2, 3, 4], [12, 4, 1]), [[0, 0, 24]])
        XCTAssertEqual(try runs([], []), [[0, 0, 1]])
        XCTAssertEqual(try runs([1, 5, 1], [99, 1, 7]), [[0, 0, 5]])
    }

    func testVisitsPaddedRowsOneByOne() throws {
        XCTAssertEqual(try runs([2, 2, 3], [20, 8, 1]), [
            [0, 0, 3], [8, 3, 3], [20, 6, 3], [28, 9, 3],
        ])
    }

    func testVisitsWhatLiesApartElementByElement() throws {
        XCTAssertEqual(try runs([2, 2], [1, 2]), [[0, 0, 1], [2, 1, 1], [1, 2, 1], [3, 3, 1]])
        XCTAssertEqual(try runs([2, 2], [0, 1]), [[0, 0, 2], [0, 2, 2]])
    }

    func testVisitsNothingOfAnEmptyArray() throws {
        XCTAssertEqual(try runs([2, 0, 3], [3, 3, 1]), [])
    }

    func testMeasures() throws {
        let layout = try XCTUnwrap(StridedLayout(shape: [2, 2, 3], strides: [20, 8, 1]))
        XCTAssertEqual(layout.count, 12)
        XCTAssertEqual(layout.span, 31)
        XCTAssertEqual(StridedLayout(shape: [0], strides: [1])?.span, 0)
        XCTAssertNil(StridedLayout(shape: [2, 3], strides: [1]))
        XCTAssertNil(StridedLayout(shape: [2], strides: [-1]))
    }

    private func runs(_ shape: [Int], _ strides: [Int]) throws -> [[Int]] {
        let layout = try XCTUnwrap(StridedLayout(shape: shape, strides: strides))
        var runs: [[Int]] = []
        layout.forEachRun { runs.append([$0, $1, $2]) }
        return runs
    }
}
