import Foundation

/// Why a bundle cannot be brought into the library or removed from it.
public enum LibraryError: Error, Sendable, Equatable {
    /// There is not enough space for a copy.
    case noSpace(needed: Int, free: Int)
    /// A file could not be copied.
    case notCopied(file: String, reason: String)
    /// The bundle is part of the app.
    case notRemovable(String)
    /// The folder could not be removed.
    case notRemoved(String, reason: String)
}

extension LibraryError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .noSpace(let needed, let free):
            "The model takes \(byteText(needed)), and there are \(byteText(free)) free; free some "
                + "space and add it again."
        case .notCopied(let file, let reason):
            "'\(file)' could not be copied (\(reason)); add the model again."
        case .notRemovable(let name): "'\(name)' is part of the app and cannot be removed."
        case .notRemoved(let name, let reason):
            "'\(name)' could not be removed (\(reason)); try again."
        }
    }
}

/// A number of bytes for people, such as `1.3 GB`; a gigabyte has 10⁹ bytes.
public func byteText(_ bytes: Int) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"]
    var value = Double(bytes)
    var unit = 0
    while value >= 999.5, unit < units.count - 1 {
        value /= 1000
        unit += 1
    }
    let digits = unit >= 3 && value < 99.95 ? 1 : 0
    return String(format: "%.\(digits)f", value) + " " + units[unit]
}
