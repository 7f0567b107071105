import Foundation

extension ModelBundle {
    /// Compares the size of every file with the manifest.
    func checkSizes() throws {
        for record in manifest.files where !isReplaced(record.path) {
            let found: Int
            do {
                let values = try FileManager.default.attributesOfItem(
                    atPath: url(record.path).path)
                found = (values[.size] as? NSNumber)?.intValue ?? -1
            } catch {
                throw KDError.missingFile(record.path)
            }
            guard found == record.bytes else {
                throw KDError.wrongSize(
                    file: record.path, expected: record.bytes, found: found)
            }
        }
    }

    /// Whether a file belongs to a package that is not there because its compiled form is.
    func isReplaced(_ path: String) -> Bool {
        let packages = manifest.components.flatMap(\.files)
        guard let package = packages.first(where: { path.hasPrefix("\($0)/") }) else {
            return false
        }
        let compiled = url(package).deletingPathExtension().appendingPathExtension("mlmodelc")
        return !exists(url(package)) && exists(compiled)
    }

    /// The SHA-256 of a file in hexadecimal digits.
    ///
    /// - Parameter progress: Told how many bytes were read since it was told last.
    func sha256(of path: String, progress: (Int) -> Void) throws -> String {
        let file: FileHandle
        do {
            file = try FileHandle(forReadingFrom: url(path))
        } catch {
            throw KDError.missingFile(path)
        }
        defer { try? file.close() }
        var hash = FileHash()
        while true {
            try Task.checkCancellation()
            let piece: Data
            do {
                piece = try file.piece(upTo: 1 << 22)
            } catch {
                throw KDError.unreadableFile(path, reason: error.localizedDescription)
            }
            if piece.isEmpty { return hash.hex() }
            hash.update(piece)
            progress(piece.count)
        }
    }

    /// Reads a JSON file of the bundle.
    func decode<Value: Decodable>(_ type: Value.Type, from path: String) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(contentsOf: url(path)))
        } catch let error as DecodingError {
            throw KDError.unreadableFile(path, reason: "'\(error.place)': \(error.reason)")
        } catch {
            throw KDError.unreadableFile(path, reason: error.localizedDescription)
        }
    }

    private func exists(_ url: URL) -> Bool {
        FileManager.default.fileExists(atPath: url.path)
    }
}
