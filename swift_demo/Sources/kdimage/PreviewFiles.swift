import Foundation
import KDCoreML
import KDNumerics

/// Pictures of single steps: `step-001.png`, `step-002.png`, …
struct PreviewFiles {
    private let folder: URL

    /// Makes the folder; throws an error of the system.
    init(_ folder: URL) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.folder = folder
    }

    /// Writes the picture of a step, counted from 0.
    func write(_ picture: Picture, step: Int) throws {
        let number = String(step + 1)
        let zeros = String(repeating: "0", count: max(0, 3 - number.count))
        let file = folder.appendingPathComponent("step-\(zeros)\(number).png")
        try PictureFile.encode(picture).write(to: file, options: .atomic)
    }
}
