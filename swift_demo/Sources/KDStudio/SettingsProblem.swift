import Foundation
import KDDiffusion

/// Why settings cannot be drawn, before anything is loaded.
public enum SettingsProblem: Error, Sendable, Equatable {
    /// The prompt is empty.
    case noPrompt
    /// The sampler has no table for the number of steps.
    case steps(Int)
    /// The bundle does not draw this size.
    case size(PixelSize)
    /// The bundle has no such sampler.
    case sampler(String)
    /// The sampler cannot begin with a picture.
    case samplerForPicture(String)
    /// The bundle needs a picture to draw after.
    case noControlPicture
}

extension SettingsProblem: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .noPrompt: "Say what to draw: the prompt is empty."
        case .steps(let steps):
            "The sampler has no table for \(steps) steps; choose another number."
        case .size(let size):
            "The model does not draw \(size.width) × \(size.height) pixels; choose another size."
        case .sampler(let name): "The model has no sampler '\(name)'; choose another one."
        case .samplerForPicture(let name):
            "The sampler '\(name)' cannot begin with a picture; choose another one."
        case .noControlPicture: "The model draws after a picture; choose one."
        }
    }
}

extension SettingsRules {
    /// All that keeps settings from being drawn, in the order of the controls.
    ///
    /// - Parameters:
    ///   - settings: What the user chose.
    ///   - pictures: The pictures that the user chose.
    public func problems(
        _ settings: Settings, pictures: ChosenPictures = .init()
    ) -> [SettingsProblem] {
        var problems: [SettingsProblem] = []
        if settings.prompt.allSatisfy(\.isWhitespace) { problems.append(.noPrompt) }
        if needsControlPicture && pictures.control == nil { problems.append(.noControlPicture) }
        let size = PixelSize(width: settings.width, height: settings.height)
        if !allows(size) { problems.append(.size(size)) }
        guard let sampler = samplers.first(where: { $0.name == settings.scheduler }) else {
            return problems + [.sampler(settings.scheduler)]
        }
        if !sampler.steps.contains(settings.steps) { problems.append(.steps(settings.steps)) }
        if pictures.initial != nil && takesStartingPicture && !sampler.startsFromPicture {
            problems.append(.samplerForPicture(sampler.name))
        }
        return problems
    }

    private func allows(_ size: PixelSize) -> Bool {
        if !sizes.isEmpty { return sizes.contains(size) }
        guard size.width > 0, size.height > 0, multiple > 0 else { return false }
        return size.width % multiple == 0 && size.height % multiple == 0
    }
}
