import Foundation

/// What can go wrong with a bundle or while one draws. What cannot be drawn is a `RequestProblem`,
/// wrapped in `request`; engines throw errors of their own as well.
public enum KDError: Error, Sendable, Equatable {
    // The bundle.

    /// The folder has no manifest.
    case notABundle(folder: String)
    /// The manifest cannot be read; `place` is the path of the value in it, empty for all of it.
    case damagedManifest(place: String, reason: String)
    /// The manifest has a later version than this package knows.
    case newerSchema(found: Int, known: Int)
    /// The bundle was exported for something else than Core ML.
    case wrongBackend(String)
    /// An input or output has elements of a type that this package does not know.
    case unknownElementType(String, place: String)
    /// A file that the manifest lists is not there.
    case missingFile(String)
    /// A file has another number of bytes than when it was exported.
    case wrongSize(file: String, expected: Int, found: Int)
    /// A file has other content than when it was exported.
    case changedFile(String)
    /// A file of the bundle is there but cannot be used.
    case unreadableFile(String, reason: String)
    /// The bundle has no model for this part of the pipeline.
    case missingComponent(Component.Role)
    /// A model takes or gives other tensors than the manifest says.
    case wrongPorts(file: String, expected: ModelPorts, found: ModelPorts)

    // The request.

    /// The bundle cannot draw what was asked for.
    case request(RequestProblem)

    // The run.

    /// A model gave NaN or infinite values; `call` counts the calls of the U-Net from 1.
    case notFinite(Component.Role, call: Int?)
    /// A model gave no tensor of this name.
    case missingOutput(String, file: String)
    /// A model takes something that this package does not know.
    case unknownInput(String, file: String)
    /// A model was given or gave a tensor of another shape than the manifest says.
    case wrongShape(String, file: String, expected: String, found: [Int])
}

extension KDError: LocalizedError {
    /// One sentence: what is wrong, where, and what to do.
    public var errorDescription: String? {
        switch self {
        case .notABundle(let folder):
            "'\(folder)' is no kdexport bundle: it has no \(ModelBundle.manifestName); make one "
                + "with `kdexport coreml MODEL -o DIR`."
        case .damagedManifest(let place, let reason):
            "The manifest of the bundle cannot be read\(place.isEmpty ? "" : " at '\(place)'") "
                + "(\(reason)); export the model again."
        case .newerSchema(let found, let known):
            "The bundle's manifest has version \(found), and this app reads up to \(known); update "
                + "the app, or export the model with an older kdexport."
        case .wrongBackend(let backend):
            "The bundle is for '\(backend)', not for Core ML; export the model with `kdexport "
                + "coreml`."
        case .unknownElementType(let name, let place):
            "The manifest says '\(name)' at '\(place)', which is no type of element that this app "
                + "knows; update the app or export the model again."
        case .missingFile(let path):
            "The bundle lacks '\(path)'; copy it again or export the model again."
        case .wrongSize(let file, let expected, let found):
            "'\(file)' in the bundle has \(found) bytes instead of \(expected); copy the bundle "
                + "again or export the model again."
        case .changedFile(let path):
            "'\(path)' in the bundle was changed or damaged after the export; copy the bundle "
                + "again or export the model again."
        case .unreadableFile(let path, let reason):
            "'\(path)' in the bundle cannot be read (\(reason)); copy the bundle again or export "
                + "the model again."
        case .missingComponent(let role):
            "The bundle has no component '\(role.rawValue)'; export the model again."
        case .wrongPorts(let file, let expected, let found):
            "'\(file)' takes \(listing(found.inputs)) and gives \(listing(found.outputs)), but the "
                + "manifest says \(listing(expected.inputs)) and \(listing(expected.outputs)); "
                + "export the model again."
        case .request(let problem):
            problem.errorDescription
        case .notFinite(let role, let call):
            "The component '\(role.rawValue)' gave NaN or infinite values"
                + (call.map { " at call \($0)" } ?? "")
                + "; choose other compute units, or export with --precision fp32."
        case .missingOutput(let name, let file):
            "'\(file)' gave no output '\(name)'; export the model again."
        case .unknownInput(let name, let file):
            "'\(file)' takes '\(name)', which this app does not know; update the app or export the "
                + "model again."
        case .wrongShape(let name, let file, let expected, let found):
            "'\(name)' of '\(file)' has the shape \(found) instead of \(expected); export the "
                + "model again."
        }
    }
}

/// Names in a sentence: `a, b and c`.
func listing(_ names: [String], joint: String = "and") -> String {
    guard let last = names.last, names.count > 1 else { return names.first ?? "nothing" }
    return "\(names.dropLast().joined(separator: ", ")) \(joint) \(last)"
}
