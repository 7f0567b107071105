import Foundation

/// Copies a folder file by file, so that it can tell how far it is and be cancelled.
struct FolderCopy {
    /// What is copied.
    let from: URL
    /// Where to; there is nothing there yet.
    let to: URL

    /// Copies all regular files; links and hidden files are left out.
    ///
    /// Files are copied by the system, which on one volume takes no space for them twice.
    ///
    /// - Parameter progress: Told the share of the bytes after each file, 0 to 1.
    /// - Throws: `LibraryError.notCopied`, `CancellationError`.
    func run(progress: (Double) -> Void) throws {
        let files = try listing()
        let total = max(files.reduce(0) { $0 + $1.bytes }, 1)
        var done = 0
        for file in files {
            try Task.checkCancellation()
            let target = to.appendingPathComponent(file.path)
            do {
                try FileManager.default.createDirectory(
                    at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
                try FileManager.default.copyItem(
                    at: from.appendingPathComponent(file.path), to: target)
            } catch {
                throw LibraryError.notCopied(file: file.path, reason: error.localizedDescription)
            }
            done += file.bytes
            progress(Double(done) / Double(total))
        }
    }

    private func listing() throws -> [(path: String, bytes: Int)] {
        guard let names = FileManager.default.enumerator(atPath: from.path) else {
            throw LibraryError.notCopied(file: from.lastPathComponent, reason: "it cannot be read")
        }
        var files: [(path: String, bytes: Int)] = []
        while let path = names.nextObject() as? String {
            let isHidden = path.split(separator: "/").contains { $0.hasPrefix(".") }
            let values = try? FileManager.default.attributesOfItem(
                atPath: from.appendingPathComponent(path).path)
            guard !isHidden, let values, values[.type] as? FileAttributeType == .typeRegular else {
                continue
            }
            files.append((path, (values[.size] as? NSNumber)?.intValue ?? 0))
        }
        return files
    }
}
