import Foundation
@testable import KDStudio
import XCTest

final class GalleryTests: XCTestCase {
    func testStoresListsAndRemoves() throws {
        let gallery = Gallery(folder: try temporaryFolder(self).appendingPathComponent("pictures"))
        XCTAssertEqual(gallery.items(), [])
        let early = try item("20260101-000000-aa", date: 1000)
        let late = try item("20260102-000000-bb", date: 2000)
        try gallery.store(Data("early".utf8), item: early)
        try gallery.store(Data("late".utf8), item: late)
        XCTAssertEqual(gallery.items(), [late, early])
        XCTAssertEqual(try Data(contentsOf: gallery.picture(of: late)), Data("late".utf8))
        try gallery.remove(late)
        XCTAssertEqual(gallery.items(), [early])
        XCTAssertThrowsError(try gallery.remove(late))
    }

    func testPassesOverWhatIsNoPicture() throws {
        let folder = try temporaryFolder(self)
        let gallery = Gallery(folder: folder)
        let item = try item("a", date: 1)
        try gallery.store(Data(), item: item)
        try FileManager.default.copyItem(
            at: folder.appendingPathComponent("a.json"),
            to: folder.appendingPathComponent("b.json"))
        try Data("{}".utf8).write(to: folder.appendingPathComponent("c.json"))
        XCTAssertEqual(gallery.items(), [item])
        try FileManager.default.removeItem(at: gallery.picture(of: item))
        XCTAssertEqual(gallery.items(), [])
    }

    private func item(_ id: String, date: Double) throws -> GalleryItem {
        let json = """
            {"id": "\(id)", "date": "\(ISO8601DateFormatter().string(
                from: Date(timeIntervalSince1970: date)))",
             "model": "tiny", "index": 0, "usedPictures": false,
             "settings": {"prompt": "a cup", "steps": 4, "guidance": 2, "seed": 3, "width": 128,
                          "height": 128, "scheduler": "fast", "images": 1, "livePreview": true}}
            """
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        return try decoder.decode(GalleryItem.self, from: Data(json.utf8))
    }
}
