import KDNumerics
import XCTest

final class PictureGoldenTests: XCTestCase {
    private struct Cases: Decodable {
        struct Resized: Decodable {
            let from: Goldens.Slice
            let to: Goldens.Slice
        }
        struct Read: Decodable {
            let picture: Goldens.Slice
            let signed: Goldens.Slice
            let unit: Goldens.Slice
        }
        struct Decoded: Decodable {
            let decoded: Goldens.Slice
            let pictures: [Goldens.Slice]
        }
        struct Embedded: Decodable {
            let guidance: Double
            let size: Int
            let embedding: Goldens.Slice
        }
        let resized: [Resized]
        let read: [Read]
        let decoded: [Decoded]
        let guidance: [Embedded]
    }

    func testResizingIsPillows() throws {
        let (cases, pixels) = try load()
        for each in cases.resized {
            let expected = try picture(each.to, pixels)
            let actual = try picture(each.from, pixels).resized(
                width: expected.width, height: expected.height)
            XCTAssertTrue(actual == expected, "\(each.from.shape) to \(each.to.shape)")
        }
        Goldens.checked(cases.resized.count, "resized pictures")
    }

    func testPicturesAreReadAsDiffusersReadsThem() throws {
        let (cases, pixels) = try load()
        let floats = try Floats("pictures.f32")
        for each in cases.read {
            let picture = try picture(each.picture, pixels)
            XCTAssertEqual(picture.signed(), floats.tensor(each.signed))
            XCTAssertEqual(picture.unit(), floats.tensor(each.unit))
        }
        Goldens.checked(cases.read.count, "pictures as tensors")
    }

    func testDecodedPicturesAreDiffusers() throws {
        let (cases, pixels) = try load()
        let floats = try Floats("pictures.f32")
        for each in cases.decoded {
            for (row, slice) in each.pictures.enumerated() {
                let actual = try Picture(decoded: floats.tensor(each.decoded), row: row)
                XCTAssertTrue(try actual == picture(slice, pixels), "picture \(row)")
            }
        }
        Goldens.checked(cases.decoded.count, "tensors as pictures")
    }

    func testTheGuidanceEmbeddingIsDiffusers() throws {
        let floats = try Floats("pictures.f32")
        let cases = try load().0.guidance
        var worst: Float = 0
        for each in cases {
            let theirs = floats.tensor(each.embedding)
            let values = guidanceEmbedding(each.guidance, size: each.size)
            let ours = Tensor(shape: theirs.shape, values: values)
            // One bit of a frequency times the largest angle.
            let allowed = 1e-6 + 1000 * Float(abs(each.guidance - 1)) / Float(1 << 23)
            XCTAssertLessThanOrEqual(deviation(ours, theirs), allowed)
            worst = max(worst, deviation(ours, theirs))
        }
        Goldens.checked(cases.count, "guidance embeddings, within \(worst)")
    }

    func testHashesArePythons() throws {
        struct Case: Decodable {
            let size: Int
            let sha256: String
        }
        let cases = try Goldens.read([Case].self, "hashes.json")
        let bytes = try Goldens.bytes("hashes.u8")
        for each in cases {
            XCTAssertEqual(SHA256.hex(of: bytes.prefix(each.size)), each.sha256, "\(each.size)")
            var pieces = SHA256()
            var rest = bytes.prefix(each.size)
            for size in [0, 1, 63, 64, 65, 200] {
                pieces.update(rest.prefix(size))
                rest = rest.dropFirst(size)
            }
            pieces.update(Array(rest))
            XCTAssertEqual(pieces.hex(), each.sha256, "\(each.size) in pieces")
        }
        Goldens.checked(cases.count, "hashes")
    }

    private func load() throws -> (Cases, [UInt8]) {
        try (Goldens.read(Cases.self, "pictures.json"), Goldens.bytes("pictures.u8"))
    }

    private func picture(_ slice: Goldens.Slice, _ pixels: [UInt8]) throws -> Picture {
        try Picture(
            width: slice.shape[1], height: slice.shape[0], pixels: Array(pixels[slice.range]))
    }
}
