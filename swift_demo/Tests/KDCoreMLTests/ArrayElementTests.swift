import XCTest

@testable import KDCoreML

final class ArrayElementTests: XCTestCase {
    func testWritesAndReadsEveryType() throws {
        let values: [Float] = [0, -1, 2, 300, -4096, 5]
        let dense = try XCTUnwrap(StridedLayout(shape: [2, 3], strides: [3, 1]))
        let padded = try XCTUnwrap(StridedLayout(shape: [2, 3], strides: [32, 1]))
        let turned = try XCTUnwrap(StridedLayout(shape: [2, 3], strides: [1, 2]))
        for element in ArrayElement.allCases {
            for layout in [dense, padded, turned] {
                let memory = filled(layout.span * element.size)
                defer { memory.deallocate() }
                XCTAssertTrue(element.write(values, to: memory, layout: layout))
                XCTAssertEqual(element.read(.init(memory), layout: layout), values)
            }
        }
    }

    func testLeavesPaddingAsItIs() throws {
        let layout = try XCTUnwrap(StridedLayout(shape: [2, 1], strides: [4, 1]))
        let memory = filled(5 * 4)
        defer { memory.deallocate() }
        XCTAssertTrue(ArrayElement.int32.write([1, 2], to: memory, layout: layout))
        XCTAssertEqual(Array(memory.bindMemory(to: Int32.self)), [1, -1, -1, -1, 2])
    }

    func testRefusesWhatDoesNotFit() throws {
        let layout = try XCTUnwrap(StridedLayout(shape: [2, 2], strides: [4, 1]))
        let memory = filled(6 * 4)
        defer { memory.deallocate() }
        let short = UnsafeMutableRawBufferPointer(rebasing: memory[..<20])
        XCTAssertTrue(ArrayElement.float32.write([1, 2, 3, 4], to: memory, layout: layout))
        XCTAssertFalse(ArrayElement.float32.write([1, 2, 3, 4], to: short, layout: layout))
        XCTAssertNil(ArrayElement.float32.read(.init(short), layout: layout))
        XCTAssertFalse(ArrayElement.float32.write([1, 2, 3], to: memory, layout: layout))
        XCTAssertFalse(ArrayElement.int32.write([1, 2, 3, 0.5], to: memory, layout: layout))
        XCTAssertFalse(ArrayElement.int32.write([1, 2, 3, 3e9], to: memory, layout: layout))
        XCTAssertFalse(ArrayElement.int32.write([1, 2, 3, .nan], to: memory, layout: layout))
    }

    private func filled(_ count: Int) -> UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        for index in memory.indices { memory[index] = 0xFF }
        return memory
    }
}
