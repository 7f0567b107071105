import Foundation

/// The pictures that were drawn: a folder with a PNG and a JSON file for each.
public struct Gallery: Sendable {
    /// The folder; it is made when the first picture is stored.
    public let folder: URL

    /// Nothing is read yet.
    public init(folder: URL) {
        self.folder = folder
    }

    /// All pictures, the latest first. Files that belong to none are passed over.
    public func items() -> [GalleryItem] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".json") && !$0.hasPrefix(".") }
            .compactMap { read(folder.appendingPathComponent($0)) }
            .sorted { ($0.date, $0.id) > ($1.date, $1.id) }
    }

    /// Where an item's picture is.
    public func picture(of item: GalleryItem) -> URL {
        folder.appendingPathComponent("\(item.id).png")
    }

    /// Stores a picture, whole or not at all.
    ///
    /// - Parameters:
    ///   - png: The picture's file.
    ///   - item: Its description.
    /// - Throws: An error of the system, such as a full disk.
    public func store(_ png: Data, item: GalleryItem) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try png.write(to: picture(of: item), options: .atomic)
        do {
            // The description comes last: a picture without one is not in the gallery.
            try encoder().encode(item).write(to: description(of: item), options: .atomic)
        } catch {
            try? FileManager.default.removeItem(at: picture(of: item))
            throw error
        }
    }

    /// Deletes a picture and its description; throws an error of the system.
    public func remove(_ item: GalleryItem) throws {
        try FileManager.default.removeItem(at: description(of: item))
        try FileManager.default.removeItem(at: picture(of: item))
    }

    private func description(of item: GalleryItem) -> URL {
        folder.appendingPathComponent("\(item.id).json")
    }

    private func read(_ file: URL) -> GalleryItem? {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        guard let data = try? Data(contentsOf: file),
            let item = try? decoder.decode(GalleryItem.self, from: data),
            // The names inside are what the files are found by.
            "\(item.id).json" == file.lastPathComponent,
            FileManager.default.fileExists(atPath: picture(of: item).path)
        else { return nil }
        return item
    }

    private func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return encoder
    }
}
