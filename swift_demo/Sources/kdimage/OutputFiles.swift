import Foundation
import KDCoreML
import KDNumerics

/// Where pictures are written.
struct OutputFiles {
    /// One file for each picture.
    let files: [URL]
    private let format: PictureFile.Format

    /// Names the files, before anything is drawn.
    ///
    /// - Parameters:
    ///   - output: The file, or the one whose name is numbered.
    ///   - images: How many pictures there will be.
    /// - Throws: `OutputError` where nothing can be written there.
    init(_ output: URL, images: Int) throws {
        guard let format = PictureFile.Format(output) else {
            throw OutputError.kind(output.lastPathComponent)
        }
        let folder = output.deletingLastPathComponent()
        guard isFolder(folder) else { throw OutputError.folder(folder.path) }
        self.format = format
        let stem = output.deletingPathExtension().lastPathComponent
        files = images <= 1
            ? [output]
            : (0..<images).map {
                folder.appendingPathComponent("\(stem)-\($0).\(output.pathExtension)")
            }
    }

    /// Writes the pictures, each whole or not at all.
    ///
    /// - Parameters:
    ///   - pictures: As many as there are files.
    ///   - description: What a file says of its picture.
    func write(_ pictures: [Picture], description: (Int) -> String) throws {
        for (index, (picture, file)) in zip(pictures, files).enumerated() {
            let data = try PictureFile.encode(
                picture, as: format, description: description(index))
            try data.write(to: file, options: .atomic)
        }
    }
}

/// Why nothing can be written.
enum OutputError: Error, Equatable {
    /// No known kind of picture file.
    case kind(String)
    /// The folder is not there.
    case folder(String)
}

extension OutputError: LocalizedError {
    var errorDescription: String? {
        switch self {
        case .kind(let name):
            "The picture '\(name)' must have a name that ends in .png or .jpg; choose another one."
        case .folder(let path): "There is no folder '\(path)'; make it first."
        }
    }
}

/// Whether there is a folder.
func isFolder(_ url: URL) -> Bool {
    var isDirectory: ObjCBool = false
    return FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory)
        && isDirectory.boolValue
}
