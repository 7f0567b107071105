import KDNumerics
import XCTest

final class PictureTests: XCTestCase {
    private func noise(_ width: Int, _ height: Int) throws -> Picture {
        let values = (0..<(3 * width * height)).map { UInt8(truncatingIfNeeded: $0 &* 7919 >> 3) }
        return try Picture(width: width, height: height, pixels: values)
    }

    func testWhatIsNoPictureIsRefused() {
        for (width, height) in [(0, 1), (1, 0), (-2, -3), (Int.max, 2), (1 << 40, 1 << 20)] {
            XCTAssertThrowsError(try Picture(width: width, height: height, pixels: [])) {
                XCTAssertEqual($0 as? PictureError, .size(width: width, height: height))
            }
            XCTAssertThrowsError(try noise(3, 2).resized(width: width, height: height)) {
                XCTAssertEqual($0 as? PictureError, .size(width: width, height: height))
            }
        }
        XCTAssertThrowsError(try Picture(width: 2, height: 2, pixels: [0])) { error in
            XCTAssertEqual(
                error.localizedDescription,
                "A picture of 2x2 pixels has three bytes for each, not 1 in all; convert it to "
                    + "8-bit RGB.")
        }
    }

    func testTheSameSizeIsTheSamePicture() throws {
        let picture = try noise(13, 7)
        XCTAssertEqual(try picture.resized(width: 13, height: 7), picture)
    }

    func testOneColourStaysThatColour() throws {
        for byte: UInt8 in [0, 1, 127, 254, 255] {
            let picture = try Picture(
                width: 11, height: 5, pixels: Array(repeating: byte, count: 165))
            for (width, height) in [(3, 2), (40, 1), (64, 64)] {
                let resized = try picture.resized(width: width, height: height)
                XCTAssertEqual(Set(resized.pixels), [byte])
            }
        }
    }

    func testInvertingTwiceIsNothing() throws {
        let picture = try noise(5, 4)
        XCTAssertEqual(picture.inverted().inverted(), picture)
        XCTAssertEqual(picture.unit(inverted: true), picture.inverted().unit())
    }

    func testDecodingUndoesReading() throws {
        let picture = try Picture(
            width: 16, height: 16, pixels: (0..<768).map { UInt8($0 / 3) })
        XCTAssertEqual(try Picture(decoded: picture.signed(), row: 0), picture)
        XCTAssertEqual(picture.signed().shape, [1, 3, 16, 16])
        XCTAssertEqual(picture.signed().values.first, -1)
        XCTAssertEqual(picture.signed().values.last, 1)
    }

    func testValuesOutOfRangeAreCutOff() throws {
        let values: [Float] = [-1.01, 1.01, .infinity, -.infinity, .nan, 0]
        let picture = try Picture(
            decoded: Tensor(shape: [1, 3, 1, 2], values: values), row: 0)
        XCTAssertEqual(picture.pixels, [0, 255, 0, 255, 0, 128])
    }

    func testWhatIsNoDecoderOutputIsRefused() {
        let cases = [
            ([1, 3, 2, 2], 1), ([1, 3, 2, 2], -1), ([3, 2, 2], 0), ([1, 4, 2, 2], 0),
            ([1, 3, 0, 2], 0), ([0, 3, 2, 2], 0),
        ]
        for (shape, row) in cases {
            XCTAssertThrowsError(
                try Picture(decoded: Tensor(repeating: 0, shape: shape), row: row)
            ) { XCTAssertEqual($0 as? PictureError, .decoded(shape: shape, row: row)) }
        }
    }

    func testKnownHashes() {
        XCTAssertEqual(
            SHA256.hex(of: []), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(
            SHA256.hex(of: "abc".utf8),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    func testAHashCanBeLookedAtOnTheWay() {
        var hash = SHA256()
        hash.update("ab".utf8)
        XCTAssertEqual(hash.hex(), SHA256.hex(of: "ab".utf8))
        hash.update("c".utf8)
        XCTAssertEqual(hash.hex(), SHA256.hex(of: "abc".utf8))
        XCTAssertEqual(hash.digest().count, 32)
    }

    func testAnEmbeddingOfNoGuidanceHasTheAngleZero() {
        for size in [4, 5, 256] {
            let expected =
                Array(repeating: Float(0), count: size / 2)
                + Array(repeating: 1, count: size / 2) + Array(repeating: 0, count: size % 2)
            XCTAssertEqual(guidanceEmbedding(1, size: size), expected)
        }
    }
}
