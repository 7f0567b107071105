import KDCoreML
import KDNumerics
import KDStudio
import PhotosUI
import SwiftUI

/// The pictures to start from and to draw after.
struct PicturesSection: View {
    /// What the model allows.
    let rules: SettingsRules

    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        Section("Pictures") {
            if rules.takesStartingPicture {
                PictureRow(title: "Starting picture", picture: $studio.pictures.initial)
                if studio.pictures.initial != nil {
                    ShareRow(title: "Change", share: $studio.strength)
                }
            }
            if rules.needsControlPicture {
                PictureRow(title: "Picture to follow", picture: $studio.pictures.control)
                ShareRow(title: "Weight", share: $studio.controlScale)
            }
        }
    }
}

/// Lets the user choose a picture from the photos, or none.
struct PictureRow: View {
    /// What it is for.
    let title: String
    /// The picture.
    @Binding var picture: Picture?

    @Environment(Studio.self) private var studio
    @State private var item: PhotosPickerItem?

    var body: some View {
        PhotosPicker(selection: $item, matching: .images) {
            Label(title, systemImage: "photo")
        }
        .onChange(of: item) {
            if let item { Task { await load(item) } }
        }
        if let picture {
            PictureView(picture: picture)
                .frame(maxHeight: 160)
                .accessibilityLabel(title)
            Button("Remove", role: .destructive) {
                self.picture = nil
                item = nil
            }
            .accessibilityLabel("Remove: \(title)")
        }
    }

    private func load(_ item: PhotosPickerItem) async {
        do {
            guard let data = try await item.loadTransferable(type: Data.self) else { return }
            let name = title
            // No model draws anything larger, and photos take much memory.
            picture = try await Task.detached {
                try PictureFile.decode(data, name: name, longestSide: 2048)
            }.value
        } catch {
            studio.notice = error.localizedDescription
        }
    }
}

/// A share from above 0 to 1.
struct ShareRow: View {
    /// What it is.
    let title: String
    /// The share.
    @Binding var share: Double

    var body: some View {
        VStack(alignment: .leading) {
            LabeledContent(title, value: text)
                .accessibilityHidden(true)
            Slider(value: $share, in: 0.05...1, step: 0.05) { Text(title) }
                .accessibilityValue(text)
        }
    }

    private var text: String { share.formatted(.percent.precision(.fractionLength(0))) }
}
