import Foundation

extension Manifest {
    /// Reads the manifest of a bundle; `check` looks at its values.
    ///
    /// - Throws: `KDError`: there is none, it is no JSON, newer than this package, or incomplete.
    public static func read(_ folder: URL) throws -> Manifest {
        let file = folder.appendingPathComponent(ModelBundle.manifestName)
        guard FileManager.default.fileExists(atPath: file.path) else {
            throw KDError.notABundle(folder: folder.lastPathComponent)
        }
        let data: Data
        do {
            data = try Data(contentsOf: file)
        } catch {
            throw KDError.unreadableFile(
                ModelBundle.manifestName, reason: error.localizedDescription)
        }
        return try Manifest(json: data)
    }

    /// Reads the text of a manifest.
    ///
    /// - Throws: `KDError`: it is no JSON, newer than this package, or lacks a value.
    public init(json: Data) throws {
        do {
            // First, because a newer manifest may lack what this version has.
            let version = try JSONDecoder().decode(SchemaVersion.self, from: json).number
            guard version <= Manifest.knownSchema else {
                throw KDError.newerSchema(found: version, known: Manifest.knownSchema)
            }
            self = try JSONDecoder().decode(Manifest.self, from: json)
        } catch let error as DecodingError {
            throw KDError.damagedManifest(place: error.place, reason: error.reason)
        }
    }
}

private struct SchemaVersion: Decodable {
    let number: Int

    enum CodingKeys: String, CodingKey {
        case number = "schema_version"
    }
}

extension DecodingError {
    /// Where in the file it happened.
    var place: String {
        switch self {
        case .typeMismatch(_, let context), .valueNotFound(_, let context),
            .dataCorrupted(let context):
            context.codingPath.place
        case .keyNotFound(let key, let context): (context.codingPath + [key]).place
        @unknown default: ""
        }
    }

    /// What happened, in words for a bracket.
    var reason: String {
        switch self {
        case .typeMismatch(let type, _): "it is no \(type)"
        case .valueNotFound(let type, _): "it is null instead of \(type)"
        case .keyNotFound: "it is missing"
        case .dataCorrupted(let context):
            context.codingPath.isEmpty ? "it is no JSON" : context.debugDescription
        @unknown default: "it cannot be decoded"
        }
    }
}
